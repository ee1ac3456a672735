"""Files at URLs that are on a disk, and disks that are full."""

import errno
import os
import shutil

import pytest

from spjax.studies.mirror import Mirror
from spjax.studies.store import Store, StoreError
from tests.studies.fake_sweep import specs


@pytest.fixture
def on_disk(tmp_path):
    return Store(f"file://{tmp_path / 'bucket'}")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "result.json").write_text("new content")
    return folder


def full(source, target, **kwargs):
    """Stands in for `shutil.copyfile` where a disk has room for a few bytes more."""
    with open(target, "wb") as file:
        file.write(b"new")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))


def test_a_file_that_cannot_be_written_in_full_replaces_none(on_disk, source, monkeypatch):
    on_disk.write("runs/key/result.json", b"old content")
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match="cannot write to file://.*No space left on device"):
        on_disk.upload(source, ["result.json"], "runs/key")
    assert on_disk.read("runs/key/result.json") == b"old content"
    assert list(on_disk.files()) == ["runs/key/result.json"]
    monkeypatch.undo()
    on_disk.upload(source, ["result.json"], "runs/key")
    assert on_disk.read("runs/key/result.json") == b"new content"
    assert list(on_disk.files()) == ["runs/key/result.json"]


def test_the_disk_that_is_full_is_named(on_disk, source, tmp_path, monkeypatch):
    mirror = Mirror(on_disk.url, tmp_path / "here", specs(1))
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError) as caught:
        on_disk.upload(source, ["result.json"])
    text = mirror._explain(caught.value)
    assert text.startswith(f"cannot write to {on_disk.url}: No space") and "has room" in text
    assert "bucket" not in text.removeprefix(f"cannot write to {on_disk.url}")

    on_disk.write("result.json", b"old")
    (tmp_path / "here").mkdir()
    with pytest.raises(OSError, match="No space") as caught:
        on_disk.download(["result.json"], tmp_path / "here")
    assert not isinstance(caught.value, StoreError)
    assert mirror._explain(caught.value).startswith(f"{tmp_path / 'here'} cannot be written (No sp")


def test_a_full_disk_whose_error_has_no_name(tmp_path, monkeypatch):
    store = Store("memory://full-disk")  # as packages of clouds, which write what they receive
    monkeypatch.setattr(type(store._system), "get", lambda *args: full_without_name(), raising=True)
    with pytest.raises(OSError, match="No space"):
        store.download(["result.json"], tmp_path)


def full_without_name():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
