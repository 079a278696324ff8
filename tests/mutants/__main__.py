"""See `tests.mutants.hunt`."""

import sys

from tests.mutants.hunt import main

if __name__ == "__main__":
    sys.exit(main())
