"""`podnet` and `python -m podnet`."""

import os
import sys


def main() -> None:
    """The entry point; a Ctrl-C while the verbs are still being imported ends quietly too."""
    open_standard_streams()
    try:
        from podnet.cli import main as verbs
    except KeyboardInterrupt:
        sys.exit(130)
    verbs()


def open_standard_streams() -> None:
    """Whoever starts us may have closed 0, 1 or 2 (`podnet up >&-`): the next socket would take its number, and be
    written to as if it were the terminal."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
