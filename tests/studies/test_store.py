"""Files at URLs that are on a disk, and disks that are full."""

import errno
import os
import shutil

import pytest

from spjax.studies.store import Store, StoreError


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
