"""The nftables mode: one table `ip kube-proxy`, maps for what is looked up, a chain for what is decided."""
