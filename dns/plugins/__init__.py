"""One file per directive of the Corefile; `podnet.dns.registry` knows their order."""
