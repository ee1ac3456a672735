"""Devices to plan for: chips with their published rates, and slices or hosts of them."""

from __future__ import annotations

import dataclasses
import math
import os
import re

from spjax.studies import cost

_GB, _GIB = 1e9, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as JAX counts them, with published peak rates.

    Attributes:
      name: as in a topology's text.
      platform: "tpu", "gpu" or "cpu".
      flops: dense bfloat16 operations a second.
      memory: bytes.
      bandwidth: of the memory, bytes a second.
      interconnect: bytes a second that it sends to its neighbours.
      usable: share of the memory that programs get.
      source: of the numbers.
    """

    name: str
    platform: str
    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    usable: float
    source: str

    @property
    def limit(self) -> float:
        """Bytes that programs and their arrays may take."""
        return self.usable * self.memory


# TPU programs get all but a quarter of a GiB of a v5e (15.75 of 16, as its compiler says); JAX
# takes three quarters of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
_TPU, _GPU = 0.984, 0.75
_TPU_DOCS, _GPU_DOCS = (
    "https://cloud.google.com/tpu/docs/",
    "https://www.nvidia.com/en-us/data-center/",
)


def _tpu(name: str, flops: float, gib: float, bandwidth: float, gbit: float) -> Chip:
    source = f"{_TPU_DOCS}{name}"
    return Chip(name, "tpu", flops, gib * _GIB, bandwidth, gbit / 8 * _GB, _TPU, source)


def _gpu(name: str, flops: float, gb: float, bandwidth: float, nvlink: float) -> Chip:
    # NVLink's number counts both directions.
    source = f"{_GPU_DOCS}{name}"
    return Chip(name, "gpu", flops, gb * _GB, bandwidth, nvlink / 2 * _GB, _GPU, source)


CHIPS = {
    chip.name: chip
    for chip in (
        _tpu("v4", 275e12, 32, 1200e9, 2400),
        _tpu("v5e", 197e12, 16, 819e9, 1600),
        _tpu("v5p", 459e12, 95, 2765e9, 4800),
        _tpu("v6e", 918e12, 32, 1640e9, 3584),
        _gpu("a100", 312e12, 80, 2039e9, 600),
        _gpu("h100", 989e12, 80, 3350e9, 900),
        _gpu("h200", 989e12, 141, 4800e9, 900),
    )
}
_FORMS = "v5e:4x4, v4:2x2x4, v5p:2x2x2, v6e:2x4, gpu:h100:8 or cpu:2"
_MOST = 1 << 16  # devices


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices of one kind.

    Attributes:
      name: such as "v5e:4x4".
      chip: each of them.
      shape: how they are arranged.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of devices."""
        return math.prod(self.shape)

    @property
    def meshes(self) -> list[int]:
        """Numbers of devices that a run may have, the smallest first.

        A run has a whole slice of TPUs, any power of two of the GPUs, or one worker's cores.
        """
        if self.chip.platform == "tpu":
            return [self.count]
        if self.chip.platform == "cpu":
            return [1]
        return [1 << i for i in range(self.count.bit_length()) if self.count % (1 << i) == 0]


def parse(text: str) -> Topology:
    """Returns the devices that a text names.

    Args:
      text: "CHIP:AxB" of a TPU slice, as JAX's topologies are named; "gpu:CHIP:COUNT"; "cpu:COUNT"
        for so many cores of a machine like this one, a worker on each.

    Raises:
      ValueError: it names none; the message lists those that are known.
    """
    kind, _, rest = text.strip().lower().partition(":")
    if kind == "gpu":
        kind, _, rest = rest.partition(":")
    platform = "cpu" if kind == "cpu" else CHIPS[kind].platform if kind in CHIPS else ""
    named = "gpu" if text.strip().lower().startswith("gpu:") else ""
    if not platform or (platform == "gpu") != (named == "gpu"):
        names = {p: ", ".join(x.name for x in CHIPS.values() if x.platform == p) for p in _KINDS}
        raise ValueError(
            f"unknown topology {text!r}: there are the TPUs {names['tpu']} and the GPUs "
            f"{names['gpu']}, and cpu. Write {_FORMS}."
        )
    sizes = re.fullmatch(r"\d+(x\d+)*" if platform == "tpu" else r"\d+", rest)
    shape = tuple(map(int, rest.split("x"))) if sizes else ()
    if not shape or len(shape) > 3 or not 1 <= math.prod(shape) <= _MOST:
        wants = "the sides of the slice" if platform == "tpu" else "the number of devices"
        raise ValueError(f"topology {text!r} has {rest!r} for {wants}. Write {_FORMS}.")
    chip = _this_cpu(shape[0]) if platform == "cpu" else CHIPS[kind]
    return Topology(text.strip().lower(), chip, shape)


_KINDS = ("tpu", "gpu")


def _this_cpu(workers: int) -> Chip:
    """Returns a core of a machine with the memory of this one, shared by the workers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers
    source = "spjax/studies/cost.py, and the memory of this machine"
    return Chip("cpu", "cpu", cost.FLOPS_PER_SECOND, memory, 10e9, 1e9, 0.9, source)
