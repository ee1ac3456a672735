"""Gang sizes: the number of runs that should train side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from spjax import subprocesses
from spjax.studies import devices
from spjax.studies.plan import RunSpec


def widths(
    specs: Sequence[RunSpec], gang_width: int = 0, devices_per_worker: int = 1
) -> Callable[[RunSpec], int]:
    """Returns a function from a run to the number of such runs that should share a gang.

    A gang fills the device: its width is the calibrated number of encoder positions over those of
    one run's batch. On CPU the batch of one run fills the device, so runs train one after the other
    in one warm process.

    Args:
      specs: the runs that are to be planned; those that share a gang with no other, as runs that
        change the weights, are not measured.
      gang_width: the same for all; 0 to measure, on accelerators.
      devices_per_worker: accelerators that a gang trains on.
    """
    accelerators = devices.accelerators()
    if gang_width or not accelerators.names:
        return lambda spec: gang_width or 1
    variables = accelerators.slices(devices_per_worker)[0]
    shared = {gang for gang, count in Counter(spec.gang for spec in specs).items() if count > 1}
    spec_of = {spec.gang: spec for spec in specs if spec.gang in shared}
    sizes = {gang: calibrated(spec, variables) for gang, spec in spec_of.items()}
    return lambda spec: max(1, sizes.get(spec.gang, 0) // spec.positions)


def calibrated(spec: RunSpec, variables: Mapping[str, str] | None = None) -> int:
    """Returns the encoder positions at a time that fill the device with this run's model.

    Measured in a separate process, so that the device is free again for the workers, and cached in
    the user's cache folder.

    Args:
      spec: the run.
      variables: of the environment, which say what devices there are.

    Raises:
      RuntimeError: the process failed; the message has its error, or the end of what it wrote.
    """
    try:
        (measured,) = subprocesses.run(
            "spjax.studies.calibration:calibrate_text",
            [spec.text],
            "measures the batch size",
            variables=variables,
        )
    except (OSError, ValueError, RuntimeError) as error:
        model = spec.labels["model"]
        raise RuntimeError(f"the calibration of {model} failed: {error}") from error
    return int(measured["positions"])
