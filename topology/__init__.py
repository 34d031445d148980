"""The emulated data centre, and the one door to the kernel: nodes, hosts, switches, links."""
