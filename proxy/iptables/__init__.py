"""The iptables mode: the chains of kube-proxy, KUBE-SERVICES to KUBE-SEP-..., written through iptables-restore."""
