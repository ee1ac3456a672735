"""Signals that end `spjax train` with its run saved."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from spjax.cli.train_display import TrainDisplay
from spjax.training import loop
from spjax.training.stop import STOP_SIGNALS
from tests.test_partitioning import environment
from tests.training.test_longer_run import FLAGS, result, train


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_a_run_where_it_is(number, tmp_path, monkeypatch, capsys):
    """Between evaluations; the same command goes on, to the numbers of an undisturbed run."""
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)
    rarely = ("--gin.EVAL_PERIOD=5",)
    assert train(tmp_path / "whole", 5, *rarely) == 0

    def show(display, progress):
        if progress.stage == "training" and progress.step == 3:
            signal.raise_signal(number)

    handler = signal.getsignal(number)
    with monkeypatch.context() as signaled:
        signaled.setattr(TrainDisplay, "__call__", show)
        assert train(tmp_path / "run", 5, *rarely) == 128 + number
    assert f"stopped by {number.name}; the same command continues." in capsys.readouterr().err
    assert signal.getsignal(number) is handler
    assert not (tmp_path / "run" / "result.json").exists()
    assert train(tmp_path / "run", 5, *rarely) == 0
    assert "resuming from step 3" in capsys.readouterr().out
    assert result(tmp_path / "run") == result(tmp_path / "whole")


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_ends_both(tmp_path, shared_cache):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_PROCESS_COUNT": "2"}
    more = (
        f"--gin.MODEL_DIR={tmp_path}/run",
        "--gin.TRAIN_STEPS=100000",
        "--gin.EVAL_PERIOD=90000",
    )

    def begin(i):
        with (tmp_path / f"{i}.out").open("w") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "spjax", "train", *FLAGS, *more],
                env=environment(1, SPJAX_CACHE=str(shared_cache), **address, JAX_PROCESS_ID=str(i)),
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            )

    processes = [begin(i) for i in range(2)]
    deadline = time.monotonic() + 300
    while "training" not in (tmp_path / "0.out").read_text():
        assert time.monotonic() < deadline and all(x.poll() is None for x in processes)
        time.sleep(0.2)
    processes[1].send_signal(signal.SIGTERM)  # which does not write the files
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 128 + signal.SIGTERM, errors[-4000:]
        assert "stopped by SIGTERM; the same command continues." in errors
    (step,) = (x for x in (tmp_path / "run" / "checkpoints").iterdir() if x.name.isdigit())
    assert 0 < int(step.name) < 90_000
