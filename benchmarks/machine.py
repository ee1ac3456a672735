"""The machine and versions that figures are measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def processor(text: str) -> dict[str, str]:
    """The last processor of a /proc/cpuinfo."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def has_bfloat16(flags: Collection[str]) -> bool:
    """Returns whether a processor with these flags has instructions for bfloat16."""
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def describe(*packages: str) -> dict[str, Any]:
    """Processor, load, versions of Python and some packages, and the commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    info = Path("/proc/cpuinfo")
    facts = processor(info.read_text() if info.exists() else "")
    flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": facts.get("model name", platform.machine()),
        "flags": [flag for flag in flags if flag in facts.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "commit": commit.stdout.strip(),
    }
