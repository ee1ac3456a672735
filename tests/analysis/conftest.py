"""The synthetic study all analysis tests share."""

from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import synthetic  # noqa: E402


@pytest.fixture
def results():
    return synthetic.study()
