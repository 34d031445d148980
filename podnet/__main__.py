"""`podnet` and `python -m podnet`."""

import sys


def main() -> None:
    """The entry point; a Ctrl-C while the verbs are still being imported ends quietly too."""
    try:
        from podnet.cli import main as verbs
    except KeyboardInterrupt:
        sys.exit(130)
    verbs()


if __name__ == "__main__":
    main()
