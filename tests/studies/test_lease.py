"""Leases, on every storage that there is."""

import threading
import time

import pytest

from spjax.studies import lease
from spjax.studies.lease import Lease
from spjax.studies.store import Store, StoreError
from tests.studies.storages import NAMES, storages  # noqa: F401


def seconds(url):
    return 4.0 if url.startswith("s3://") else 1.5


@pytest.fixture(autouse=True)
def short(monkeypatch, request):
    url = next((request.getfixturevalue(x) for x in request.fixturenames if x == "url"), "")
    monkeypatch.setattr(lease, "_SLACK", 1.2 if url.startswith("s3://") else 0.3)


@pytest.fixture(params=NAMES)
def url(request, storages):  # noqa: F811
    return storages(request.param)


def take(url):
    taken = Lease(Store(url), seconds(url))
    taken.acquire()
    return taken


def test_a_second_holder_is_refused_and_a_lease_that_was_given_back_is_free(url):
    message = r"another sweep is at work in .*@.*process \d+.*UTC"
    with take(url).kept(), pytest.raises(ValueError, match=message):
        take(url)
    begin = time.monotonic()
    second = take(url)
    assert second.is_current() and second.epoch > 1 and time.monotonic() - begin < 1
    assert len(Store(url).files(lease.FOLDER)) == 1


@pytest.mark.slow
def test_an_expired_lease_is_taken_over_and_its_holder_notices(url, caplog):
    first = take(url)
    begin = time.monotonic()
    second = take(url)
    assert (
        time.monotonic() - begin > seconds(url) - 1
        and "unless renewed, it is free in" in caplog.text
    )
    assert not first.is_current() and second.is_current() and second.epoch > first.epoch
    first.renew()
    assert "process" in first.lost and not first.is_current()
    second.renew()
    assert not second.lost and second.is_current()


def test_of_many_at_once_one_has_it(url):
    if url.startswith("s3://"):
        pytest.skip("moto looks and writes in two steps; see the next test for its conditions")
    first, barrier = take(url), threading.Barrier(8)
    for _ in range(20):
        others, won = [Lease(Store(url), seconds(url)) for _ in range(8)], []

        def try_to(other):
            other.store.files()
            barrier.wait()
            if other._advance(first._number):
                won.append(other)

        threads = [threading.Thread(target=try_to, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and won[0].is_current()
        first.renew()
        assert first.lost
        first = won[0]


def test_the_storage_itself_refuses_a_second_file(url):
    store = Store(url)
    assert store.create("a/b", b"one") and not store.create("a/b", b"two")
    assert store.create("a/b", b"one")  # a request that was repeated
    assert store.read("a/b") == b"one"
    store.remove("a/b")
    store.remove("a/b")
    assert store.read("a/b") is None and store.modified("a/b") is None and store.files() == {}
    assert store.create("a/b", b"three")


def test_who_comes_back_late_has_nothing(url):
    first = take(url)
    sleeper = Lease(first.store)
    number = first._number  # which the sleeper has seen last
    for _ in range(3):
        first.renew()
    assert not sleeper._advance(number)  # though there is no file of that number any more
    first.renew()
    assert first.is_current() and len(first.store.files(lease.FOLDER)) == 1


@pytest.fixture
def memory(storages):  # noqa: F811
    return storages("memory")


def test_a_storage_that_ignores_conditions_is_refused(memory, monkeypatch):
    write = Store.write
    monkeypatch.setattr(Store, "create", lambda self, *args: write(self, *args) or True)
    with pytest.raises(ValueError, match="two sweeps at once cannot be kept apart in memory://"):
        take(memory)
    assert Store(memory).files() == {}
    monkeypatch.undo()
    other = Lease(Store(memory))
    other.store.scheme = "sftp"  # fsspec's own `mode="create"` looks first and writes then
    with pytest.raises(ValueError, match="cannot be kept apart in memory://"):
        other.acquire()


def test_a_lost_answer_and_a_lost_network_cost_no_lease(memory, monkeypatch):
    held = take(memory)

    def unreachable(self, *args):
        raise StoreError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "files", unreachable)  # the file is created, and not known to be ours
        with pytest.raises(StoreError):
            held.renew()
    assert held.store.read(".lease/00000002")
    held.renew()
    assert held.is_current() and not held.lost
    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", unreachable)
        with held.kept():
            time.sleep(held.seconds)
            assert not held.is_current() and not held.lost and held.problem == "no answer"
            patch.undo()
            held.renew()
            assert held.is_current()
            time.sleep(held.seconds / 2)
            assert not held.problem
    assert take(memory).is_current()


def test_a_lease_is_given_back_after_a_renewal_without_an_answer(memory, monkeypatch):
    held = take(memory)

    def unreachable(self, *args):
        raise StoreError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "files", unreachable)
        with pytest.raises(StoreError):
            held.renew()
    held._release()
    begin = time.monotonic()
    assert take(memory).is_current() and time.monotonic() - begin < held.seconds / 2


def test_old_files_that_cannot_be_removed_cost_no_lease(memory, monkeypatch):
    take(memory)._release()
    remove = Store.remove

    def refuse(self, name):
        if "test-" not in name:
            raise StoreError("no answer")
        remove(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", refuse)
        held = take(memory)
    assert held.is_current() and len(held.store.files(lease.FOLDER)) == 2
    held.renew()
    assert held.is_current() and len(held.store.files(lease.FOLDER)) == 1


def test_a_full_disk_is_nobody_that_has_the_lease(tmp_path, monkeypatch):
    held = take(f"file://{tmp_path}")
    names = set(Store(f"file://{tmp_path}").files(lease.FOLDER))

    def full(self, path, mode="rb", **kwargs):
        file = open_file(self, path, mode, **kwargs)
        if "x" in mode:
            file.write = unwritable
        return file

    def unwritable(content):
        raise OSError(28, "No space left on device")

    system = type(held.store._system)
    open_file = system.open
    with monkeypatch.context() as patch:
        patch.setattr(system, "open", full)
        with pytest.raises(StoreError, match="No space left on device"):
            held.renew()
        with pytest.raises(StoreError, match="No space left on device"):
            take(f"file://{tmp_path}")
    assert not held.lost and set(Store(f"file://{tmp_path}").files(lease.FOLDER)) == names
    held.renew()
    assert held.is_current()


def test_clocks_that_are_wrong_do_not_matter(memory, monkeypatch):
    held = take(memory)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert not held.is_current()  # to be careful
    held.renew()
    assert held.is_current()
    with held.kept(), pytest.raises(ValueError, match="at work"):
        take(memory)
