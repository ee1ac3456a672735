"""Studies at URLs whose files are damaged, or whose disks are full."""

import collections
import errno
import os
import re
import threading
import time
from pathlib import Path

import pytest

from spjax.files import check_sum
from spjax.studies import copies, mirror, results, run_folder, runner
from spjax.studies.executors.local import Local
from spjax.studies.mirror import Archive, Mirror
from spjax.studies.store import Store
from tests.studies import fake_url_sweep
from tests.studies.fake_sweep import specs
from tests.studies.fake_url_sweep import TRAIN, archived, sweep
from tests.studies.storages import SHARED, storages  # noqa: F401

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    fake_url_sweep.hurry(monkeypatch.setattr)


@pytest.fixture
def memory(storages):  # noqa: F811
    return storages("memory")


def test_archives_of_a_killed_process_are_removed(memory, tmp_path):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path / "a", plan)
    opened._upload_checkpoints()
    place = f"runs/{spec.key}"
    opened.store.write(f"{place}/checkpoints-1-9.zip", b"before the last")
    (tmp_path / "b").mkdir()
    Mirror(memory, tmp_path / "b", plan)._download()
    assert list(opened.store.files("runs")) == [f"{place}/checkpoints-1-10.zip"]


def test_flipped_bits_of_an_archives_index_are_none_or_a_warning(tmp_path):
    for folder in ("snapshot", "run", "there"):
        (tmp_path / folder).mkdir()
    state = tmp_path / "snapshot" / "checkpoints" / "10" / "state"
    state.parent.mkdir(parents=True)
    state.write_text("1234")
    mirror._zip(tmp_path / "snapshot", tmp_path / "run", tmp_path / "whole.zip")
    whole = (tmp_path / "whole.zip").read_bytes()
    copy, results = tmp_path / "there" / "checkpoints-1-10.zip", collections.Counter()
    index = range(8 * whole.index(b"PK\1\2"), 8 * len(whole), 3)
    for bit in index:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        copy.write_bytes(damaged)
        results[mirror.unpack(copy)] += 1
    assert results[False] > 100 and results.total() == len(index)


@pytest.mark.slow
def test_of_damaged_archives_the_one_before_is_taken(memory, tmp_path, caplog):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path / "a", plan)
    opened._upload_checkpoints()
    place = f"runs/{spec.key}"
    for name in ("checkpoints-1-20.zip", "checkpoints-2-5.zip"):
        opened.store.write(f"{place}/{name}", b"PK cut o")
    (tmp_path / "b").mkdir()
    second = Mirror(memory, tmp_path / "b", plan)
    second._download()
    assert [x.name for x in (spec.folder(tmp_path / "b") / "checkpoints").iterdir()] == ["10"]
    assert "checkpoints-1-20.zip is damaged and not used" in caplog.text
    # They go with the next one that is uploaded.
    second.lease.acquire()
    (spec.folder(tmp_path / "b") / "checkpoints" / "30").mkdir()
    second._upload_checkpoints()
    assert list(second.store.files("runs")) == [f"{place}/checkpoints-{second.lease.epoch}-30.zip"]


def test_a_damaged_result_at_the_url_costs_no_checkpoints_here(memory, tmp_path):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path, plan)
    opened.store.write(f"runs/{spec.key}/result.json", b'{"score": ')
    opened._download()
    assert (spec.folder(tmp_path) / "checkpoints" / "10" / "arrays" / "state.json").exists()


def test_a_run_with_a_damaged_result_here_is_mirrored_while_it_is_trained(memory, tmp_path, caplog):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path, plan)
    (spec.folder(tmp_path) / "config.gin").write_text(spec.text)
    (spec.folder(tmp_path) / "result.json").write_text('{"score": ')
    for _ in range(3):
        opened._upload_results()
    assert caplog.text.count("it counts as missing") == 1
    opened._upload_checkpoints()
    assert list(opened.store.files("runs")) == [f"runs/{spec.key}/checkpoints-1-10.zip"]


def test_a_damaged_result_at_the_url_is_replaced_by_that_here(memory, tmp_path):
    (spec,) = plan = specs(1)
    _, opened = sweep(memory, tmp_path, plan)
    name = f"runs/{spec.key}/result.json"
    whole = opened.store.read(name)
    opened.store.write(name, whole[:-9])
    sweep(memory, tmp_path, plan)
    assert opened.store.read(name) == whole


def test_tables_without_digests_are_not_damaged_at_the_url(memory, tmp_path, monkeypatch):
    opened = Mirror(memory, tmp_path, specs(1))
    opened.lease.acquire()
    results.write("fake", [], tmp_path)
    opened._upload_study(tmp_path)
    (tmp_path / "results.csv").write_text("newer")  # and then the disk was full
    (tmp_path / "results.sha256").unlink()
    opened._upload_study(tmp_path)
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    folder = Path(copies.local_copy(memory))
    check_sum(folder / "results.sha256", "results.csv")
    assert (folder / "results.csv").read_text() == "newer"


def test_files_on_their_way_to_a_disk_are_removed_and_not_read(storages, tmp_path, monkeypatch):  # noqa: F811
    url = storages("file")
    Store(url).write("results.csv", b"table")
    Store(url).write(".transfer/0", b"cut o")  # by a process that was killed
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    assert not (Path(copies.local_copy(url)) / ".transfer").exists()
    (tmp_path / "a").mkdir()
    Mirror(url, tmp_path / "a", specs(1))._download()
    assert list(Store(url).files()) == ["results.csv"]


def test_a_damaged_result_leaves_the_checkpoints(memory, tmp_path):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path / "a", plan)
    (spec.folder(tmp_path / "a") / "trackers.json").write_text('{"ids": {"wandb": "7"}}')
    opened._upload_checkpoints()
    opened.store.write(f"runs/{spec.key}/result.json", b'{"score": ')
    (tmp_path / "b").mkdir()
    Mirror(memory, tmp_path / "b", plan)._download()
    folder = spec.folder(tmp_path / "b")
    assert [x.name for x in (folder / "checkpoints").iterdir()] == ["10"]
    assert (folder / "trackers.json").is_file() and not (folder / "result.json").exists()


def no_room_for(monkeypatch, spec):
    """Lets the local disk be full as a run's archive is written."""
    write = mirror._zip

    def full(snapshot, folder, archive):
        if folder.name == spec.key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "archive")
        write(snapshot, folder, archive)

    monkeypatch.setattr(mirror, "_zip", full)


def test_a_run_that_cannot_be_uploaded_keeps_no_other_back(memory, tmp_path, monkeypatch):
    plan = specs(3)
    runner.sweep("fake", plan, tmp_path, executor=Local(2), train=TRAIN)
    opened = Mirror(memory, tmp_path, plan)
    opened.lease.acquire()
    opened._ended.set()
    no_room_for(monkeypatch, plan[0])
    with pytest.raises(OSError, match="No space left"):
        opened._upload_results()
    assert opened._missing() == 1 and opened.store.read("results.csv")
    assert opened.store.read(f"runs/{plan[2].key}/result.json")


def test_a_result_needs_no_room_for_checkpoints(memory, tmp_path, monkeypatch):
    (spec,) = plan = specs(1)
    runner.sweep("fake", plan, tmp_path / "a", executor=Local(1), train=TRAIN)
    Store(memory).write(f"runs/{spec.key}/checkpoints-1-10.zip", b"not those of the result")
    monkeypatch.setattr(mirror, "_PATIENCE_SECONDS", 0.3)
    with monkeypatch.context() as patch:
        no_room_for(patch, spec)
        with Mirror(memory, tmp_path / "a", plan).opened() as opened:
            pass
    assert re.search(r"1 finished runs are not there\): archive .*No space left", opened.behind)
    names = {name.rpartition("/")[2] for name in opened.store.files("runs")}
    assert "result.json" in names and not Archive.newest(names)
    assert sweep(memory, tmp_path / "b", plan)[0].new == 0
    # This machine has the checkpoints, and knows that they are missing.
    with Mirror(memory, tmp_path / "a", plan).opened() as opened:
        pass
    names = {name.rpartition("/")[2] for name in opened.store.files("runs")}
    assert Archive.newest(names).step == 30 and not opened.behind


def test_at_the_end_one_problem_keeps_no_other_upload_back(memory, tmp_path, monkeypatch):
    plan = specs(2)
    opened = archived(memory, tmp_path, plan[1:])
    opened.lease._release()
    runner.sweep("fake", plan[:1], tmp_path, executor=Local(1), train=TRAIN)
    monkeypatch.setattr(mirror, "_PATIENCE_SECONDS", 0.3)
    no_room_for(monkeypatch, plan[0])
    opened = Mirror(memory, tmp_path, plan)
    opened._repeat = lambda step: None
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "scores.png").touch()
    with opened.opened():
        pass
    files = opened.store.files()
    assert f"runs/{plan[1].key}/checkpoints-{opened.lease.epoch}-10.zip" in files
    assert "figures/scores.png" in files and "1 finished runs are not there" in opened.behind


def test_a_full_local_disk(memory, tmp_path, monkeypatch, caplog):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path, plan)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "archive")

    monkeypatch.setattr(mirror, "_zip", full)
    thread = threading.Thread(target=opened._repeat, args=(opened._upload_checkpoints,))
    thread.start()
    time.sleep(0.5)
    opened._ended.set()
    thread.join()
    assert caplog.text.count("archive cannot be written (No space left on device") == 1
    opened.store.write(f"runs/{spec.key}/config.gin", spec.text.encode())
    opened.store.write(f"runs/{spec.key}/result.json", b"{}")
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError) as caught:
        opened._download()
    assert run_folder.disk_problem(caught.value)
    (tmp_path / "file").touch()  # an error of the disk is none of the storage
    with pytest.raises(OSError):
        opened.store.download([f"runs/{spec.key}/result.json"], tmp_path / "file")
