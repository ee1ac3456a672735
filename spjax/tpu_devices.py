"""The TPU chips of this machine, by its device files; needs no JAX."""

from __future__ import annotations

from pathlib import Path

_DEV = Path("/dev")
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_GOOGLE = "0x1ae0"


def count() -> int:
    """Returns the number of TPU chips.

    Older machines have `/dev/accel*`, newer ones a group of `/dev/vfio` for each chip. Other
    devices are handed to programs and virtual machines as such groups too, so these count only
    where the PCI bus has a device of Google's.
    """
    chips = len(list(_DEV.glob("accel[0-9]*")))
    return chips or (len(list(_DEV.glob("vfio/[0-9]*"))) if _has_google_device() else 0)


def _has_google_device() -> bool:
    for path in _PCI_DEVICES.glob("*/vendor"):
        try:
            if path.read_text(encoding="utf-8").strip() == _GOOGLE:
                return True
        except OSError:
            continue
    return False
