"""What figures are measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def describe(*packages: str) -> dict[str, Any]:
    """Processor, load, versions of Python and some packages, and the commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
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
