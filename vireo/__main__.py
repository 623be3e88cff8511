"""`python -m vireo` is the command `vireo`."""

import sys

from vireo.commands import main

sys.exit(main())
