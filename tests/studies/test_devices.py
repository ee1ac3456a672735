"""Devices of a host, simulated by files and the environment, and their slices."""

import pytest

from spjax import tpu_devices
from spjax.studies import devices
from spjax.studies.executors.local import Local


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Simulates device files of a machine."""
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "_DEV", tmp_path)
    monkeypatch.setattr(tpu_devices, "_DEV", tmp_path)
    monkeypatch.setattr(tpu_devices, "_PCI_DEVICES", tmp_path / "pci")

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).touch()

    return make


@pytest.fixture
def pci(tmp_path):
    """Simulates devices of the PCI bus by their vendors."""

    def make(*vendors):
        for i, vendor in enumerate(vendors):
            (tmp_path / "pci" / str(i)).mkdir(parents=True)
            (tmp_path / "pci" / str(i) / "vendor").write_text(f"{vendor}\n")

    return make


def gpus(count):
    return [f"nvidia{i}" for i in range(count)]


def visible(executor):
    return [slice["CUDA_VISIBLE_DEVICES"] for slice in executor._slices()]


def test_a_machine_without_accelerators(host):
    host("nvidiactl", "null")
    assert devices.accelerators() == devices.Accelerators()
    assert Local().expected_workers() == len(devices.cores())
    assert Local(3).expected_workers() == 3 and Local()._slices() == []


def test_each_worker_has_its_gpus(host, monkeypatch):
    host(*gpus(11), "nvidiactl", "nvidia-uvm")
    assert visible(Local()) == list(map(str, range(11)))  # by number: 10 comes after 9
    assert visible(Local(devices_per_worker=4)) == ["0,1,2,3", "4,5,6,7"]
    assert Local(devices_per_worker=4).expected_workers() == 2
    assert Local(1, devices_per_worker=4).expected_workers() == 1
    with pytest.raises(ValueError, match="--workers=3 with --devices_per_worker=4.*11 devices; 2 "):
        Local(3, devices_per_worker=4).expected_workers()
    with pytest.raises(ValueError, match="devices_per_worker=12, and this machine has 11 GPU"):
        Local(devices_per_worker=12).expected_workers()
    with pytest.raises(ValueError, match="Local.devices_per_worker is 0; use 1 or more"):
        Local(devices_per_worker=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f6,3")
    assert visible(Local()) == ["GPU-8f6", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.accelerators().names == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert devices.accelerators().names == ()


@pytest.mark.parametrize("files", ["accel{}", "vfio/{}"])
def test_each_worker_has_its_tpu_chips(host, pci, files):
    pci("0x8086", "0x1ae0")
    host(*(files.format(i + (files != "accel{}")) for i in range(4)), "vfio/vfio")
    chips = devices.accelerators()
    assert chips == devices.Accelerators(devices.TPU, ["0", "1", "2", "3"])
    assert chips.slices(2)[1] == {
        "TPU_VISIBLE_CHIPS": "2,3",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,2,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    assert len(chips.slices()) == 4 and chips.slices(4) == [{}]
    with pytest.raises(ValueError, match="chips of a host can be divided into parts of 1, 2, 4, 8"):
        chips.slices(3)


def test_other_devices_of_vfio_are_no_tpu(host, pci):
    """Groups of a network card, which a virtual machine is given, look like those of TPUs."""
    pci("0x8086", "0x15b3")
    host("vfio/vfio", "vfio/12", "vfio/13")
    assert devices.accelerators() == devices.Accelerators()
