"""podnet: a Kubernetes network you can hold in your hands. The rooms beside this file are symlinks to the top level."""

__version__ = "0.1.0"
