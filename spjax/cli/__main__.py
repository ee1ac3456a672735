"""`python -m spjax.cli`."""

import sys

from spjax.cli.main import main

sys.exit(main())
