"""The API server: the registry over a store, the watch cache, admission, and the HTTP face of it all."""
