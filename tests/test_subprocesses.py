"""Calls of functions in other processes: results, errors, the environment and the end."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spjax import locks, subprocesses


def test_each_request_gets_its_result():
    assert subprocesses.run("builtins:sorted", [[3, 1, 2], "é\udcffa"], "sorts") == [
        [1, 2, 3],
        ["a", "é", "\udcff"],
    ]
    assert subprocesses.run("builtins:sorted", [], "sorts") == []


@pytest.mark.parametrize(
    ("function", "request_", "error", "message"),
    [
        ("math:sqrt", -1, ValueError, "^.*(domain|nonnegative)"),
        ("os:listdir", "/nowhere", OSError, "No such file or directory: '/nowhere'"),
        (
            "math:sqrt",
            "x",
            RuntimeError,
            "that fails ended with status 1:\n(.*\n)*TypeError: ",
        ),
        ("os:_exit", 0, RuntimeError, "process that fails ended with status 0:\n"),
        ("signal:raise_signal", 9, RuntimeError, "was ended by SIGKILL .often: out of memory.:"),
        ("signal:raise_signal", 40, RuntimeError, "was ended by signal 40:"),
        ("no_module:f", 0, RuntimeError, "No module named 'no_module'"),
    ],
)
def test_an_error_of_a_process_is_raised_here(function, request_, error, message):
    with pytest.raises(error, match=message):
        subprocesses.run(function, [request_], "fails")


def test_a_request_larger_than_a_pipe_does_not_wait_for_its_reader():
    long = "x" * 300_000
    assert subprocesses.run("builtins:len", [long, long], "measures") == [len(long)] * 2


def test_a_process_that_cannot_be_started(tmp_path):
    with pytest.raises(RuntimeError, match="that measures could not be started: .*nothing"):
        subprocesses.run("builtins:len", ["x"], "measures", python=str(tmp_path / "nothing"))


def test_another_interpreter_finds_an_installed_spjax_and_no_other_package(tmp_path):
    packages = tmp_path / "site-packages"
    source = Path(subprocesses.__file__).parent
    shutil.copytree(source, packages / "spjax", ignore=shutil.ignore_patterns("__pycache__"))
    other = tmp_path / "python"  # without site, it does not know the spjax that is tested
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    other.chmod(0o755)
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(packages)!r})
        from spjax import subprocesses
        answers = subprocesses.run("sys:getsizeof", [1], "measures", python={str(other)!r})
        print(subprocesses.__file__, answers)
    """
    environment = {x: y for x, y in os.environ.items() if x != "PYTHONPATH"}
    environment["SPJAX_CACHE"] = str(tmp_path / "cache")
    for _ in range(2):  # the second time the folder is there
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(packages / "spjax/subprocesses.py"))
    (folder,) = (tmp_path / "cache/packages").iterdir()
    assert [path.name for path in folder.iterdir()] == ["spjax"]


def test_a_failure_ends_the_other_processes(tmp_path):
    start = time.monotonic()
    refused = pytest.raises(ValueError, match="sleep length must be non-negative")
    with locks.hold(tmp_path / "lock") as lock, refused:
        subprocesses.run("time:sleep", [60, -1], "sleeps", pass_fds=[lock])
    with locks.hold(tmp_path / "lock", patience=0.0):  # they inherited it, and are gone
        assert time.monotonic() - start < 30


def test_ctrl_c_ends_all_processes(tmp_path):
    def interrupt():
        with pytest.raises(locks.HeldError), locks.hold(tmp_path / "lock", patience=0.0):
            pass
        raise KeyboardInterrupt

    interrupted = pytest.raises(KeyboardInterrupt)
    with locks.hold(tmp_path / "lock") as lock, interrupted:
        subprocesses.run("time:sleep", [60, 60], "sleeps", pass_fds=[lock], while_waiting=interrupt)
    with locks.hold(tmp_path / "lock", patience=0.0):
        pass


def test_a_process_finds_what_this_one_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (path,) = subprocesses.run("os:getenv", ["PYTHONPATH"], "reads")
    assert path.split(os.pathsep)[1:] == [str(tmp_path)]
    assert subprocesses.run("os:getenv", ["WORD"], "reads", variables={"WORD": "é"}) == ["é"]
    (parent,) = subprocesses.run("os:getenv", [subprocesses.VARIABLE], "reads")
    assert parent == str(os.getpid())
