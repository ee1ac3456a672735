"""Snapshots of a run folder as a power cut leaves them: what was not synced is lost.

One by default; `SPJAX_BATTERY=50` for more.
"""

import dataclasses
import os
import random
import shutil

import pytest

from spjax.files import read_json
from spjax.training import loop

# Of Orbax, where a checkpoint is damaged: its event loop is closed before its reads have ended.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

COUNT = int(os.environ.get("SPJAX_BATTERY", "1"))


class Snapshots:
    """Copies a folder at random moments, as far as it was synced by then."""

    def __init__(self, source, target, count):
        self.source, self.target, self.count = source, target, count
        self.synced, self.folders = {}, []
        self.rng, self.fsync = random.Random(0), os.fsync

    def sync(self, descriptor):
        """In the place of `os.fsync`."""
        if self.rng.random() < 0.3:
            self.take()
        self.fsync(descriptor)
        stat = os.fstat(descriptor)
        self.synced[stat.st_ino] = stat.st_size
        if self.rng.random() < 0.3:
            self.take()

    def take(self):
        """A snapshot; a name is there as soon as it was given, which is the worst case."""
        folder = self.target / str(len(self.folders))
        for place, _, names in os.walk(self.source):
            copy = folder / os.path.relpath(place, self.source)
            copy.mkdir(parents=True, exist_ok=True)
            for name in names:
                try:
                    with open(os.path.join(place, name), "rb") as file:
                        kept = self.synced.get(os.fstat(file.fileno()).st_ino, 0)
                        (copy / name).write_bytes(file.read(kept))
                except FileNotFoundError:
                    pass  # renamed by now
        self.folders.append(folder)

    def chosen(self):
        """Some of them, spread over the time of the run."""
        return self.rng.sample(self.folders, min(self.count, len(self.folders)))


def end(folder):
    """All that a run leaves, but for its time."""
    result = read_json(folder / "result.json")
    del result["seconds"]
    log = (folder / "metrics.jsonl").read_text()
    return result, log, (folder / "prompt.npy").read_bytes()


@pytest.mark.slow
def test_every_snapshot_goes_on_to_the_same_end(run, tmp_path, monkeypatch, caplog):
    run = dataclasses.replace(run, checkpoint_period=1)
    whole = tmp_path / "whole"
    snapshots = Snapshots(whole, tmp_path / "snapshots", COUNT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", snapshots.sync)
        loop.train([run], [whole])
    wanted, chosen = end(whole), snapshots.chosen()
    assert len(chosen) == COUNT
    for folder in chosen:
        loop.train([run], [folder])
        assert end(folder) == wanted, folder
    assert "cannot be read" not in caplog.text  # what counts was synced in full
    assert any(list(folder.glob("checkpoints/[0-9]*")) for folder in snapshots.folders)

    # Of a folder that another program or an older version has left so.
    rng, told = random.Random(1), 0
    for number in range(-(-COUNT // 2)):
        damaged = tmp_path / f"damaged{number}"
        shutil.copytree(whole, damaged)
        for name in ("result.json", "prompt.npy", "prompt.json"):
            (damaged / name).unlink(missing_ok=True)
        newest = max(damaged.glob("checkpoints/[0-9]*"), key=lambda path: int(path.name))
        files = sorted(path for path in newest.rglob("*") if path.is_file())
        for path in rng.sample(files, rng.randint(len(files) // 2, len(files))):
            path.write_bytes(b"")
        caplog.clear()
        loop.train([run], [damaged])
        assert end(damaged) == wanted
        told += f"the checkpoint of step {newest.name} in {newest.parent}" in caplog.text
        if "cannot be read" in caplog.text:
            assert "goes on from step" in caplog.text or "begins anew" in caplog.text
    assert told


def test_errors_of_the_machine_do_not_count_as_damage(run, tmp_path, monkeypatch):
    """Too little memory, or a file that may not be opened, which TensorStore says as below."""
    from spjax.training import run_files

    loop.train([run], [tmp_path])
    (tmp_path / "result.json").unlink()
    closed = ValueError('PERMISSION_DENIED: Failed to open: "d/1": Permission denied')
    for error in (MemoryError(), closed):

        def refuse(self, step, like, error=error):
            raise error

        monkeypatch.setattr(run_files.Checkpoints, "at", refuse)
        with pytest.raises(type(error)):
            loop.train([run], [tmp_path])
        assert list(tmp_path.glob("checkpoints/6")) and not list(tmp_path.glob("unreadable*"))
