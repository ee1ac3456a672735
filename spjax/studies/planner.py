"""Gang sizes: the number of runs that should train side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from spjax import subprocesses
from spjax.studies.executors import local
from spjax.studies.plan import RunSpec


def widths(specs: Sequence[RunSpec], gang_width: int = 0) -> Callable[[RunSpec], int]:
    """Returns a function from a run to the number of such runs that should share a gang.

    A gang fills the device: its width is the calibrated number of encoder positions over those of
    one run's batch. On CPU the batch of one run fills the device, so runs train one after the other
    in one warm process.

    Args:
      specs: the runs that are to be planned; those that share a gang with no other, as runs that
        change the weights, are not measured.
      gang_width: the same for all; 0 to measure, on accelerators.
    """
    if gang_width or not local.has_accelerator():
        return lambda spec: gang_width or 1
    shared = {gang for gang, count in Counter(spec.gang for spec in specs).items() if count > 1}
    spec_of = {spec.gang: spec for spec in specs if spec.gang in shared}
    sizes = {gang: calibrated(spec) for gang, spec in spec_of.items()}
    return lambda spec: max(1, sizes.get(spec.gang, 0) // spec.positions)


def calibrated(spec: RunSpec) -> int:
    """Returns the encoder positions at a time that fill the device with this run's model.

    Measured in a separate process, so that the device is free again for the workers, and cached in
    the user's cache folder.

    Raises:
      RuntimeError: the process failed; the message has the end of what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.gin"
        config.write_text(spec.text, encoding="utf-8")
        command = [sys.executable, "-m", "spjax.studies.calibration", str(config)]
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, subprocesses.VARIABLE: str(os.getpid())},
        )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-12:])
        raise RuntimeError(f"the calibration of {spec.labels['model']} failed:\n{tail}")
    return int(json.loads(done.stdout.splitlines()[-1])["positions"])
