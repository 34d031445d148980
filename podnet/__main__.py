"""`podnet` and `python -m podnet`."""

from podnet.cli import main

if __name__ == "__main__":
    main()
