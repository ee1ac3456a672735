"""Holders of locks, and processes that end with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spjax import locks, subprocesses

ROOT = Path(__file__).parents[1]


@pytest.fixture
def child(tmp_path):
    """A process that has inherited a lock whose first owner has let it go."""
    with locks.hold(tmp_path / "lock") as descriptor:
        process = subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,))
    yield process
    process.kill()
    process.wait()


def test_a_lock_holds_and_names_its_owner(tmp_path):
    with locks.hold(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        refused = pytest.raises(locks.HeldError, match=f"^process {os.getpid()}$")
        with refused, locks.hold(tmp_path / "lock", patience=0.0):
            pass
    with locks.hold(tmp_path / "lock", patience=0.0):
        pass


def test_a_wait_is_told_with_the_child_that_holds_the_lock(tmp_path, child, caplog, monkeypatch):
    monkeypatch.setattr(locks, "_NOTE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_LOOK_SECONDS", 0.1)
    refused = pytest.raises(locks.HeldError, match=f"^process {child.pid}$")
    with refused, locks.hold(tmp_path / "lock", patience=0.3):
        pass
    assert f"waiting for {tmp_path / 'lock'}, held by process {child.pid}" in caplog.text


def test_a_stopped_holder_is_not_waited_for(tmp_path, child, monkeypatch):
    monkeypatch.setattr(locks, "_NOTE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_STOPPED_SECONDS", 0.2)
    child.send_signal(signal.SIGSTOP)
    refused = pytest.raises(locks.HeldError, match=rf"^process {child.pid} \(stopped\)$")
    with refused, locks.hold(tmp_path / "lock"):
        pass


def test_a_wait_looks_at_other_processes_only_now_and_then(tmp_path, child, monkeypatch):
    """Whoever builds what is waited for needs the processor."""
    looks = []
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(locks, "_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(locks, "_holders", lambda path: looks.append(path) or {})
    with pytest.raises(locks.HeldError), locks.hold(tmp_path / "lock", patience=0.2):
        pass
    assert len(looks) == 1
    with pytest.raises(locks.HeldError), locks.hold(tmp_path / "lock", patience=0.0):
        pass
    assert len(looks) == 2


def test_children_of_a_killed_owner_are_waited_for(tmp_path, child):
    path = tmp_path / "lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    path.write_text(f"{gone.pid}\n")
    ender = subprocess.Popen(["sh", "-c", f"sleep 0.4; kill -9 {child.pid}"])
    with locks.hold(path, patience=0.0):
        assert path.read_text() == f"{os.getpid()}\n"
    ender.wait()


def test_a_process_ends_with_its_parent():
    """The one in the middle is killed; the last one must notice."""
    last = "import time; from spjax import subprocesses as s; s.exit_with_parent(); time.sleep(60)"
    middle = (
        "import os, subprocess, sys, time; from spjax import subprocesses\n"
        "env = {**os.environ, subprocesses.VARIABLE: str(os.getpid())}\n"
        f"print(subprocess.Popen([sys.executable, '-c', {last!r}], env=env).pid, flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process, process.stdout as output:
        pid = int(output.readline())
        time.sleep(0.3)
        process.kill()
    end = time.monotonic() + 5
    while locks._state(str(pid)):
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.05)


def test_nothing_is_watched_without_a_parent(monkeypatch):
    monkeypatch.delenv(subprocesses.VARIABLE, raising=False)
    subprocesses.exit_with_parent()
