"""Cores and accelerators of this machine, and a slice of them for each worker; needs no JAX."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from spjax import tpu_devices

GPU, TPU = "gpu", "tpu"
_DEV = Path("/dev")
# Chips along x, y and z of a part of a host, by their number.
_TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


@dataclasses.dataclass(frozen=True)
class Accelerators:
    """GPUs or TPU chips that processes of this machine may use.

    Attributes:
      kind: `GPU`, `TPU`, or "" where there are none.
      names: of the devices, as CUDA_VISIBLE_DEVICES or TPU_VISIBLE_CHIPS lists them.
    """

    kind: str = ""
    names: Sequence[str] = ()

    def slices(self, devices_per_worker: int = 1) -> list[Mapping[str, str]]:
        """Returns for each worker the environment in which JAX sees its devices alone.

        For TPUs the variables are those of libtpu (as `jax._src.test_multiprocess` sets them).

        Args:
          devices_per_worker: devices that follow each other; those that are left over stay idle.

        Raises:
          ValueError: there are fewer devices, or TPU chips cannot be divided like that.
        """
        count = len(self.names)
        if devices_per_worker > count:
            raise ValueError(
                f"--devices_per_worker={devices_per_worker}, and this machine has {count} "
                f"{self.kind.upper()} devices; choose {count} or fewer."
            )
        if self.kind == TPU and devices_per_worker not in _TPU_BOUNDS:
            raise ValueError(
                f"--devices_per_worker={devices_per_worker}: the TPU chips of a host can be "
                f"divided into parts of {', '.join(map(str, _TPU_BOUNDS))}."
            )
        starts = range(0, count - devices_per_worker + 1, devices_per_worker)
        return [self._variables(self.names[i : i + devices_per_worker]) for i in starts]

    def _variables(self, names: Sequence[str]) -> dict[str, str]:
        if self.kind == GPU:
            # Otherwise numbers may go by speed, and differ from those of nvidia-smi and /dev.
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(names)}
        if len(names) == len(self.names):
            return {}  # all chips of the host, which may be a part of a larger slice
        return {
            "TPU_VISIBLE_CHIPS": ",".join(names),
            "TPU_CHIPS_PER_PROCESS_BOUNDS": _TPU_BOUNDS[len(names)],
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }


def accelerators() -> Accelerators:
    """Returns the accelerators of this machine that the environment leaves visible.

    CUDA_VISIBLE_DEVICES and TPU_VISIBLE_CHIPS are respected, as they are set in a job of Slurm, and
    so is JAX_PLATFORMS=cpu.
    """
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return Accelerators()
    for kind, variable, names in (
        (GPU, "CUDA_VISIBLE_DEVICES", _gpus()),
        (TPU, "TPU_VISIBLE_CHIPS", [str(i) for i in range(tpu_devices.count())]),
    ):
        if names and (visible := os.environ.get(variable)) is not None:
            names = [name for name in visible.split(",") if name not in ("", "-1", "NoDevFiles")]
        if names:
            return Accelerators(kind, names)
    return Accelerators()


def _gpus() -> list[str]:
    numbers = sorted(int(path.name.removeprefix("nvidia")) for path in _DEV.glob("nvidia[0-9]*"))
    return [str(number) for number in numbers]


def cores() -> list[int]:
    """Returns the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_memory() -> None:
    """Lets training steps reuse memory on CPU; call before there is a second thread."""
    from spjax.training.host_memory import keep_freed_memory

    if not accelerators().names:
        keep_freed_memory()
