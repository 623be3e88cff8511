"""The command `vireo lists` under its older name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo.commands import main

if __name__ == "__main__":
    sys.exit(main(["lists", *sys.argv[1:]]))
