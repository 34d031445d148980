"""The command line: thin verbs. Each reads its options, calls one function of podnet, and shows the answer."""

from podnet.cli.app import main

__all__ = ["main"]
