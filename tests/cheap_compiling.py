"""Settings with which JAX on the CPU compiles programs as small as the tests' fast."""

import importlib.metadata
import os

_JAX = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))


def environment(devices: int, *more: str) -> dict[str, str]:
    """Returns variables for a process with some simulated devices.

    Args:
      devices: their number.
      more: other flags of XLA.
    """
    flags = [
        f"--xla_force_host_platform_device_count={devices}",
        # Programs are cut into parts for as many threads as there are cores; whole ones take two
        # thirds of the time of a core.
        "--xla_cpu_parallel_codegen_split_count=1",
        *more,
    ]
    if _JAX < (0, 11):
        # The older of XLA's code generators takes half the time. JAX 0.12 has it no more, and ends
        # the process over the flag.
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return {
        "XLA_FLAGS": " ".join(flags),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def set_for_this_process(devices: int) -> None:
    """Sets them for this process and those that it starts, where they are not set; before JAX."""
    for name, value in environment(devices).items():
        os.environ.setdefault(name, value)
