"""`python -m pioxide`: the same as the `pioxide` command."""

import sys

from pioxide.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
