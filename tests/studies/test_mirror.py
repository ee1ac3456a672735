"""Studies at URLs, on every storage that there is, with a stand-in for training."""

import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spjax.studies import mirror, results, runner
from spjax.studies.executors.local import Local
from spjax.studies.lease import Lease
from spjax.studies.mirror import Archive, Mirror
from spjax.studies.store import Store, StoreError
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


@pytest.fixture(params=["memory", *(pytest.param(x, marks=pytest.mark.slow) for x in SHARED)])
def url(request, storages):  # noqa: F811
    return storages(request.param)


@pytest.fixture
def memory(storages):  # noqa: F811
    return storages("memory")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The results.csv of six runs of 30 steps in a local folder."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        runner.sweep("fake", specs(6), folder, executor=Local(2), train=TRAIN)
    return (folder / "results.csv").read_bytes()


def test_two_machines_one_after_the_other(url, tmp_path, table):
    sweep(url, tmp_path / "a", specs(3))
    outcome, opened = sweep(url, tmp_path / "b", specs(6))
    assert (outcome.finished, outcome.new, opened.behind) == (6, 3, "")
    assert (tmp_path / "b" / "results.csv").read_bytes() == table
    files = Store(url).files()
    assert Store(url).read("results.csv") == table and "study.gin" in files
    for spec in specs(6):
        assert f"runs/{spec.key}/result.json" in files
        assert f"runs/{spec.key}/metrics.jsonl" in files
        assert Archive.newest(x.rpartition("/")[2] for x in files if spec.key in x).step == 30
    assert not [name for name in files if "/." in name or ".transfer" in name]
    outcome, _ = sweep(url, tmp_path / "c", specs(6))
    assert outcome.new == 0 and (tmp_path / "c" / "results.csv").read_bytes() == table


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_killed_at_random_moments_it_goes_on_on_another_machine(
    storages,  # noqa: F811
    tmp_path,
    name,
):
    url, plan = storages(name), specs(6, steps=150)
    runner.sweep("fake", plan, tmp_path / "whole", executor=Local(2), train=TRAIN)
    rng = random.Random(0)
    for kill in range(3):
        command = [sys.executable, "-m", fake_url_sweep.__name__, url, str(tmp_path / f"{kill}")]
        process = subprocess.Popen([*command, "6", "150"], start_new_session=True)
        while not list((tmp_path / f"{kill}").glob("runs/*/checkpoints/*0")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(rng.uniform(0.5, 1.5))
        process.kill()
        process.wait()
    outcome, opened = sweep(url, tmp_path / "last", plan)
    assert outcome.finished == 6 and not opened.behind
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / "last" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    first = [(spec.folder(tmp_path / "last") / "starts").read_text().split()[-1] for spec in plan]
    assert any(int(step) > 0 for step in first), "no run went on from a checkpoint"
    for spec in plan:
        logs = [spec.folder(tmp_path / x) / "metrics.jsonl" for x in ("whole", "last")]
        assert logs[0].read_bytes() == logs[1].read_bytes()


def test_a_result_comes_last(memory, tmp_path, monkeypatch):
    names, upload = [], Store.upload

    def note(self, folder, chosen, under=""):
        chosen = list(chosen)
        names.extend(f"{under}/{name}" for name in chosen)
        return upload(self, folder, chosen, under)

    monkeypatch.setattr(Store, "upload", note)
    (spec,) = plan = specs(1)
    sweep(memory, tmp_path, plan)
    of_run = [name for name in names if name.startswith("runs/")]
    assert of_run[-1] == f"runs/{spec.key}/result.json" and len(of_run) > 3
    assert [name for name in names if name.startswith("/")][-1] == "/results.sha256"


def test_a_second_driver_is_refused_and_a_lost_lease_stops_the_first(url, tmp_path):
    lost, snapshots = [], []

    def take_away(opened):
        store = Store(url)
        while not store.files("runs"):
            time.sleep(0.05)
        with pytest.raises(ValueError, match="another sweep is at work in .*the lease belongs to"):
            sweep(url, tmp_path / "second", specs(1))
        thief = Lease(store)
        while not thief._advance(opened.lease._number):
            pass
        end = time.monotonic() + 20
        while not opened.lease.lost and time.monotonic() < end:
            time.sleep(0.05)
        lost.append(opened.lease.lost)
        snapshots.append({name: str(facts) for name, facts in store.files().items()})

    plan = specs(2, steps=100_000)
    first = Mirror(url, tmp_path / "first", plan)
    with first.opened():
        thread = threading.Thread(target=take_away, args=(first,))
        thread.start()
        outcome = runner.sweep(
            "fake", plan, first.folder, executor=Local(2), train=TRAIN, stop_reason=first.problem
        )
        thread.join()
    assert lost[0] and "was lost to" in outcome.stopped and "was lost to" in first.behind
    time.sleep(1)
    assert {name: str(facts) for name, facts in Store(url).files().items()} == snapshots[0]


def unreachable(self, *args):
    raise StoreError("cannot reach the storage.")


def test_a_network_that_is_lost_for_a_while(memory, tmp_path, monkeypatch, caplog, table):
    with monkeypatch.context() as patch:
        opened = Mirror(memory, tmp_path / "a", specs(6))
        with opened.opened():
            for method in ("upload", "create", "read", "files"):
                patch.setattr(Store, method, unreachable)
            outcome = runner.sweep(
                "fake",
                specs(6),
                opened.folder,
                executor=Local(2),
                train=TRAIN,
                stop_reason=opened.problem,
            )
            assert outcome.finished == 6 and not outcome.stopped
            assert "cannot reach the storage. The sweep goes on" in caplog.text
            patch.undo()
            fake_url_sweep.hurry(monkeypatch.setattr)
    assert not opened.behind and Store(memory).read("results.csv") == table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s3", "gs"])
def test_a_server_that_hangs_for_longer_than_a_lease_lasts(storages, tmp_path, name, table):  # noqa: F811
    url = storages(name)
    process, opened = storages.servers[name], Mirror(url, tmp_path, specs(6))

    def hang():
        process.send_signal(signal.SIGSTOP)
        time.sleep(2 * fake_url_sweep.LEASE_SECONDS)
        current.append(opened.lease.is_current())
        process.send_signal(signal.SIGCONT)

    with opened.opened():
        current = [opened.lease.is_current()]
        thread = threading.Thread(target=hang)
        thread.start()
        outcome = runner.sweep(
            "fake",
            specs(6),
            opened.folder,
            executor=Local(2),
            train=TRAIN,
            stop_reason=opened.problem,
        )
        assert outcome.finished == 6 and not outcome.stopped
    thread.join()
    assert current == [True, False] and not opened.lease.lost
    assert not opened.behind and Store(url).read("results.csv") == table


def test_a_network_that_stays_away_is_an_error_and_the_same_command_uploads(
    memory, tmp_path, monkeypatch, table
):
    monkeypatch.setattr(mirror, "_PATIENCE_SECONDS", 0.3)
    upload = Store.upload
    monkeypatch.setattr(Store, "upload", unreachable)
    outcome, opened = sweep(memory, tmp_path / "a", specs(6))
    assert outcome.finished == 6
    message = r"memory://.* is behind \(6 finished runs are not there\): cannot reach .* uploads it"
    assert re.match(message, opened.behind)
    monkeypatch.setattr(Store, "upload", upload)
    outcome, opened = sweep(memory, tmp_path / "a", specs(6))
    assert outcome.new == 0 and not opened.behind
    assert sweep(memory, tmp_path / "b", specs(6))[0].new == 0
    assert (tmp_path / "b" / "results.csv").read_bytes() == table


def test_a_checkpoint_that_goes_while_it_is_read_is_not_uploaded(memory, tmp_path, monkeypatch):
    (spec,) = plan = specs(1)
    opened, checkpoints = archived(memory, tmp_path, plan), spec.folder(tmp_path) / "checkpoints"
    (checkpoints / "unfinished.orbax-checkpoint-tmp").mkdir()

    def replace(source, target):
        shutil.copyfile(source, target)
        (checkpoints / "10").rename(checkpoints / "20")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_link", replace)
        opened._upload_checkpoints()
        (checkpoints / "20").rename(checkpoints / "10")
        opened._upload_run(spec)
    assert not opened.store.files("runs")
    opened._upload_checkpoints()
    assert list(opened.store.files("runs")) == [f"runs/{spec.key}/checkpoints-1-20.zip"]


def test_of_checkpoints_the_last_holders_count(memory, tmp_path):
    (spec,) = plan = specs(1)
    opened = archived(memory, tmp_path / "a", plan)
    opened._upload_checkpoints()
    late = opened.store.read(f"runs/{spec.key}/checkpoints-1-10.zip")
    opened.store.write(f"runs/{spec.key}/checkpoints-1-900.zip", b"by the first holder")
    opened.store.write(f"runs/{spec.key}/checkpoints-2-20.zip", late)
    (tmp_path / "b").mkdir()
    again = Mirror(memory, tmp_path / "b", plan)
    again._download()
    assert [x.name for x in (spec.folder(tmp_path / "b") / "checkpoints").iterdir()] == ["10"]
    # Those on this disk count if they are as new.
    state = spec.folder(tmp_path / "b") / "checkpoints" / "20"
    state.mkdir()
    Mirror(memory, tmp_path / "b", plan)._download()
    assert state.exists()
    assert not list((tmp_path / "b").glob(".transfer*"))


def test_a_damaged_archive_is_left_alone(memory, tmp_path, caplog, table):
    opened = Mirror(memory, tmp_path, specs(6))
    opened.store.write(f"runs/{specs(1)[0].key}/checkpoints-1-900.zip", b"PK no archive")
    outcome, opened = sweep(memory, tmp_path, specs(6))
    assert "checkpoints-1-900.zip is damaged and not used" in caplog.text
    assert not opened.behind and opened.store.read("results.csv") == table


def test_the_version_of_a_search_goes_along(memory, tmp_path):
    version = '{"optuna": "4.0.0"}'
    opened = Mirror(memory, tmp_path / "a", specs(1))
    opened.lease.acquire()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "search.json").write_text(version)
    results.write("fake", [], tmp_path / "a")
    (tmp_path / "a" / "study.gin").touch()
    opened._upload_tables()  # while runs are trained
    (tmp_path / "b").mkdir()
    Mirror(memory, tmp_path / "b", specs(1))._download()
    assert (tmp_path / "b" / "search.json").read_text() == version


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_is_missing(storages, scheme, tmp_path):  # noqa: F811
    storages(scheme)
    with pytest.raises(ValueError, match=f"cannot write {scheme}://no-such-bucket/x/.*the bucket"):
        sweep(f"{scheme}://no-such-bucket/x", tmp_path, specs(1))


def test_missing_credentials(storages, monkeypatch, tmp_path):  # noqa: F811
    url = storages("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ValueError, match="cannot write s3://.*Unable to locate credentials.*the c"):
        sweep(url, tmp_path, specs(1))
