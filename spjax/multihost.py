"""Runs of several processes: start-up, barriers, and the primary process."""

from __future__ import annotations

import importlib.util
import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from spjax import tpu_devices

_COUNT, _ID, _ADDRESS = "JAX_PROCESS_COUNT", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS"


def initialize() -> None:
    """Connects to the other processes of a run, if the environment names any.

    That is, if `JAX_COORDINATOR_ADDRESS` (host:port) is set, with `JAX_PROCESS_COUNT` and
    `JAX_PROCESS_ID`; if Slurm started several tasks in this step; or on a TPU machine, which may be
    one of a pod. In the last two cases JAX determines addresses and numbers. A task of Slurm that
    is the only one on its machine has all GPUs that it sees, as elsewhere; of several on a machine
    each has one. Call it before anything uses a device; a second call does nothing.

    Raises:
      ValueError: there is an address, and the number of processes or of this one is missing or no
        number.
    """
    if jax.distributed.is_initialized():
        return
    if address := os.environ.get(_ADDRESS):
        count, index = _number(_COUNT, 1), _number(_ID, 0)
        if index >= count:
            raise ValueError(
                f"{_ID} is {index} and {_COUNT} is {count}; processes are numbered from 0, so it "
                f"must be at most {count - 1}."
            )
        jax.distributed.initialize(address, count, index, _local_device_ids())
    elif _slurm_tasks() > 1 or _on_tpu():
        jax.distributed.initialize(local_device_ids=_local_device_ids())


def is_primary() -> bool:
    """Returns whether this is the primary process, which alone writes files and messages."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until all processes have reached the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def all_agree(flag: bool) -> bool:
    """Returns whether the flag is true in every process."""
    if jax.process_count() == 1:
        return flag
    return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit() or int(text) < least:
        raise ValueError(
            f"{name} is {text!r}; with {_ADDRESS} it must be a whole number of at least {least}."
        )
    return int(text)


def _slurm_tasks() -> int:
    # Of the step, which `srun` sets: in an allocation without it there is only this process.
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def _local_device_ids() -> list[int] | None:
    """Returns what leaves JAX with all devices where Slurm has one task on each machine.

    JAX gives a task of Slurm one GPU, whatever the number of tasks on its machine. No numbers are
    no restriction; None is JAX's own choice.
    """
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES") or 0)
    is_alone = nodes == _slurm_tasks() and "JAX_LOCAL_DEVICE_IDS" not in os.environ
    return [] if is_alone else None


def _on_tpu() -> bool:
    if importlib.util.find_spec("libtpu") is None or os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    return tpu_devices.count() > 0
