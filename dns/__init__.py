"""Names: a DNS server with CoreDNS's shape (Corefile, plugin chain, zones) and its Kubernetes answers.

Import it as `podnet.dns`; the bare name `dns` is dnspython's.
"""
