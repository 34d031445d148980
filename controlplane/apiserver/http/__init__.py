"""The HTTP face of the registry: routing, negotiation, authentication, rendering, watches, streams. It decides nothing
about objects; everything it answers comes from `verbs`, the documents of `api`, or a kubelet."""
