"""`python -m spjax`."""

import sys

from spjax.cli.main import main

sys.exit(main())
