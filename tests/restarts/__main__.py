"""See `tests.restarts.restarts`."""

import sys

from tests.restarts.restarts import main

if __name__ == "__main__":
    sys.exit(main())
