"""Every method, rule set, decoding and dtype compiles for TPUs; needs libtpu, but no TPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spjax.studies.hardware import tpu_compiler
from tests import tpu_cases

ROOT = Path(__file__).parents[2]
MISSING = (
    "NOTHING WAS COMPILED FOR TPU: libtpu is not installed. "
    "Install the extra 'tpu': pip install -e '.[tpu]'"
)


@pytest.fixture(scope="module")
def results():
    return compiled()


def compiled(*cases):
    """Results of some cases, from a process with libtpu."""
    if importlib.util.find_spec("libtpu") is None:
        print(f"\n{MISSING}", file=sys.__stderr__)
        pytest.skip(MISSING)
    flags = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # are for the CPU
    environment = {k: v for k, v in os.environ.items() if k not in flags}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tpu_cases", *cases],
        cwd=ROOT,
        env={**environment, **tpu_compiler.VARIABLES},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(tpu_cases.cases()))
def test_it_compiles(results, case):
    assert isinstance(results[case], float), results[case]


@pytest.mark.slow
def test_the_largest_model_fits_16_small_chips_only_with_remat():
    needs = compiled("largest")
    assert not needs["plain"]["fits"]
    assert needs["plain"]["temporaries"] == pytest.approx(18.8 * 2**30, rel=0.1)
    assert needs["remat"]["fits"]
    assert needs["remat"]["weights"] + needs["remat"]["temporaries"] < 5e9
