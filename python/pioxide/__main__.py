"""`python -m pioxide`, and what the `pioxide` command calls: an interrupt counts from the first import on."""

import sys


def main() -> int:
    """Runs the command line; returns its exit status."""
    try:
        from pioxide.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("pioxide: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
