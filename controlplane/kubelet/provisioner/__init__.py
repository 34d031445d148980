"""The node's side of the storage class `standard`: volumes that are directories in the node's own state."""
