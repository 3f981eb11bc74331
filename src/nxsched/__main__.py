"""`nxsched` and `python -m nxsched`: start the command line, or say which extra it needs."""

from __future__ import annotations

import sys

from nxsched.errors import MissingExtra


def main() -> None:
    """Run the command line; where its packages are missing, name the extra and end with status 1."""
    try:
        from nxsched.cli import main as run  # noqa: PLC0415 - its packages are optional
    except MissingExtra as error:
        sys.exit(f"nxsched: {error}")
    run()


if __name__ == "__main__":
    main()
