"""`agnhost entrypoint-tester`: print the command line, as tests of command and args read it."""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """Go prints os.Args as `[a b c]`."""
    print(f"[{' '.join([sys.argv[0] if sys.argv else '/agnhost', *argv])}]")
    return 0
