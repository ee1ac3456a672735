"""Compiles training steps for TPUs that need not be here, with libtpu."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies as jax_topologies
from jax.sharding import AxisType, Mesh

from spjax import extras, partitioning
from spjax.files import DamagedFile, default_cache_dir, read_json, write_json
from spjax.studies.hardware.estimates import Memory, StepModel
from spjax.studies.hardware.search import Compiled
from spjax.studies.hardware.settings import Setting
from spjax.studies.hardware.topologies import Topology
from spjax.training import lowering

# What libtpu would ask a cloud's metadata server for; its lock, and a folder of logs.
VARIABLES = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU that two processes would share
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
_FULL = "RESOURCE_EXHAUSTED"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_HOST = (2, 2, 1)  # chips of a host, unless the slice has fewer
_log = logging.getLogger(__name__)


def check_installed() -> None:
    """Demands libtpu.

    Raises:
      ValueError: it is not installed; says how to install it.
    """
    extras.require("tpu", "planning for TPUs", "libtpu")


def devices(topology: Topology) -> list[Any]:
    """Returns the devices of a slice, as JAX describes those that are not here.

    Raises:
      ValueError: there is no such slice.
    """
    check_installed()
    sides = (*topology.shape, 1, 1)[:3]
    options: dict[str, Any] = {}
    if any(side % chips for side, chips in zip(sides, _HOST)):  # a part of a host
        options["chips_per_host_bounds"] = sides
    if topology.chip.name == "v4":  # one device for the two cores of a chip, as in Cloud TPU VMs
        options["chip_config_name"] = "megacore"
    try:
        slices = jax_topologies.get_topology_desc(topology.name, platform="tpu", **options)
    except (jax.errors.JaxRuntimeError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"libtpu knows no slice {topology.name!r}: {reason}. Write the sides of a slice that "
            "Cloud TPU has, such as v5e:2x4, v5e:4x4, v4:2x2x4 or v5p:2x2x2."
        ) from error
    return list(slices.devices)


class Compiler:
    """Compiles the programs of a step, and keeps what they need in the user's cache folder."""

    def __init__(self, topology: Topology) -> None:
        """Args: the slice that programs are compiled for."""
        self.topology = topology
        self._devices = devices(topology)
        self._version = importlib.metadata.version("libtpu")

    def __call__(self, setting: Setting, model: StepModel) -> Compiled:
        """Returns the bytes that a gang's step takes on each chip, and whether they are there."""
        run, place = setting.applied(model.run), setting.placement(self.mesh(setting))
        step = lowering.step_shapes(run, model.config, place, model.shape, setting.runs)
        programs: list[Callable[[], jax.stages.Lowered]] = [step.gradients]
        if run.method.changes_weights:
            programs.append(step.update)  # of a prompt it is tiny
        if model.answers() > model.memory().activations:
            programs.append(lambda: lowering.answers(run, step, place, *model.answered))
        needs = [self.compiled(program()) for program in programs]
        memory = Memory(
            model.base_bytes,
            model.state_bytes,
            max(need["temporaries"] for need in needs),
            max(need["program"] for need in needs),
        )
        fits = all(need["fits"] for need in needs)
        return Compiled(memory, fits, sum(need["seconds"] for need in needs))

    def mesh(self, setting: Setting) -> Mesh:
        """Returns the mesh of a setting over the slice."""
        axes = (AxisType.Auto, AxisType.Auto)
        shape = (setting.data, setting.model)
        return jax.make_mesh(shape, partitioning.MESH_AXES, axes, devices=self._devices)

    def compiled(self, lowered: jax.stages.Lowered) -> dict[str, Any]:
        """Returns temporaries and code of a program in bytes, `fits`, and the seconds it took."""
        facts = (self.topology.name, jax.__version__, self._version, lowered.as_text())
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        path = default_cache_dir() / "compiled_for_tpu" / f"{digest}.json"
        if (kept := _kept(path)) is not None:
            return kept
        start = time.monotonic()
        need = compiled_needs(lowered)
        need["seconds"] = round(time.monotonic() - start, 1)
        write_json(path, need, indent=None)
        return need


def compiled_needs(lowered: jax.stages.Lowered) -> dict[str, Any]:
    """Compiles a program; see `Compiler.compiled`.

    Raises:
      ValueError: it cannot be compiled, for another reason than its memory.
    """
    try:
        analysis: Any = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if _FULL not in str(error):
            raise ValueError(
                f"libtpu cannot compile a program: {str(error).splitlines()[0]}. Plan the study "
                "without its method or setting, and report the message."
            ) from error
        return {"fits": False, "temporaries": _needed(str(error)), "program": 0}
    written = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
        "fits": True,
        "temporaries": analysis.temp_size_in_bytes + max(0, written),
        "program": analysis.generated_code_size_in_bytes,
    }


def _needed(message: str) -> float:
    """Returns the largest number of bytes in the compiler's complaint, 0 without any."""
    sizes = re.findall(r"([\d.]+)([KMGT]?)(?=[)\s]| of| exceeds)", message)
    numbers = [float(n) * _UNITS[unit] for n, unit in sizes if unit]
    return max(numbers, default=0.0)


def _kept(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        try:
            return read_json(path)
        except DamagedFile as error:
            _log.warning("%s; it is compiled again.", error)
    return None
