"""Vireo rebuilds the published numbers of five video-understanding systems."""

import sys

__version__ = "0.1.0"

# An older Python gets this far; what it would say further on helps nobody.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"Vireo needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]} "
        f"({sys.executable}). `make setup` makes an environment, "
        "`source .venv/bin/activate` enters it."
    )
