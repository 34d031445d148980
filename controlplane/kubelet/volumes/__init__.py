"""A pod's volumes: what is in them (pure) and how they come to stand on the node."""
