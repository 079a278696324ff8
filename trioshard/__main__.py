"""``python -m trioshard``: the command line."""

from trioshard.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
