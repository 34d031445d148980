"""A Service's rules as read from a node, each with a plain sentence: what `podnet explain svc/NAME` says."""
