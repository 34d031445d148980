"""Container logs in the CRI's format."""
