"""The command line with closed streams, other encodings, Ctrl-C and full disks."""

import contextlib
import errno
import io
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import pytest

from spjax.cli import console, main
from spjax.studies import run_folder

ROOT = Path(__file__).parents[2]


def spjax(*arguments, shell="", **environment):
    """Exit status, output and errors of a command in a process of its own."""
    command = f'exec "{sys.executable}" -m spjax.cli "$@" {shell}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
def test_closed_streams_do_no_harm():
    assert spjax("--help", shell=">&-") == (0, "", "")
    assert spjax("plot", "/nowhere", shell="2>&-") == (2, "", "")
    assert spjax("plot", "/nowhere", shell="<&- >&- 2>&-") == (2, "", "")


def test_a_reader_that_has_had_enough(monkeypatch, capsys):
    def command(args):
        raise BrokenPipeError

    monkeypatch.setattr(main, "make_parser", lambda: Parser(command))
    assert main.main([]) == 1
    assert capsys.readouterr() == ("", "")


class Parser:
    """Stands in for the command line: whatever is given, it runs one command."""

    def __init__(self, command):
        self.command = command

    def parse_args(self, argv):
        return self


def test_output_is_utf8_in_any_locale(monkeypatch):
    raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in raw.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding="ascii"))

    def command(args):
        print("50.0 ± 1.2 漢 \udc80", flush=True)
        raise ValueError("± in a message")

    command.__module__ = "spjax.test"
    monkeypatch.setattr(main, "make_parser", lambda: Parser(command))
    monkeypatch.setattr(main, "explain_error", lambda error: (2, str(error)))
    assert main.main([]) == 2
    assert raw["stdout"].getvalue().decode() == "50.0 ± 1.2 漢 \\udc80\n"
    assert raw["stderr"].getvalue().decode() == "spjax: error: ± in a message\n"


def test_three_times_ctrl_c():
    """The first is answered, the second is ignored, the third ends at once."""
    program = (
        "import os, signal, sys, time; from spjax.cli import main\n"
        # Ctrl-C is ignored by what a shell has started in the background.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Parser:\n"
        "    def parse_args(self, argv): return self\n"
        "    def command(self, args):\n"
        "        try:\n"
        "            os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
        "        finally:\n"
        "            for _ in range(int(sys.argv[1]) - 1): os.kill(os.getpid(), signal.SIGINT)\n"
        "            print('saved', flush=True)\n"
        "main.make_parser = Parser\n"
        "code = main.main()\n"
        "class Late:\n"  # while Python ends
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 2)\n"
        "late = Late() if sys.argv[1] == '2' else None\n"
        "sys.exit(code)"
    )
    for count, output in (("1", "saved\n"), ("2", "saved\n"), ("3", "")):
        command = [sys.executable, "-c", program, count]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stdout) == (130, output), count
        told = "\nspjax: interrupted; the same command continues.\n"
        assert done.stderr == (told if count != "3" else "")


def test_an_error_that_a_library_makes_of_ctrl_c(monkeypatch, capsys):
    def command(args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("the executor was shut down") from None

    monkeypatch.setattr(main, "make_parser", lambda: Parser(command))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main.main([]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a notebook's
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in capsys.readouterr().err


@contextlib.contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path, monkeypatch, capfd):
    from spjax.training import run_files, schedule

    def command(args):
        checkpoints = run_files.Checkpoints(tmp_path)
        with contextlib.closing(checkpoints), files_of_at_most(1 << 16):
            noise = jnp.sin(jnp.arange(100_000.0) ** 2)
            checkpoints.save({"trainable": noise}, schedule.Standing(step=1))
            checkpoints.wait()

    monkeypatch.setattr(main, "make_parser", lambda: Parser(command))
    assert main.main([]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"spjax: error: {tmp_path}/checkpoints/1")
    assert "cannot be written (File too large" in line and "the same command continues" in line


def test_errors_of_threads_are_left_to_the_main_thread(capfd):
    def fails():
        raise ValueError("in a thread")

    for context, silent in ((console.quiet_background(), True), (contextlib.nullcontext(), False)):
        before = threading.excepthook
        with context:
            hook, threading.excepthook = threading.excepthook, threading.__excepthook__
            if silent:
                threading.excepthook = hook
            thread = threading.Thread(target=fails)
            thread.start()
            thread.join()
        threading.excepthook = before
        assert ("in a thread" in capfd.readouterr().err) != silent


def test_a_folder_that_may_not_be_entered():
    reason = f"{os.strerror(errno.EACCES)}: /private/run"
    message = "/private/run cannot be opened (Permission denied)"
    assert run_folder.disk_message(reason) == message
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/private/run")
    assert main.explain_error(error) == (1, f"{message}.")


def test_a_folder_that_is_taken_away(tmp_path):
    folder = tmp_path / "run"
    refused = pytest.raises(ValueError, match=r"run was renamed or deleted .* continues\.")
    with refused, run_folder.claim(folder, "text"):
        folder.rename(tmp_path / "other")
        (folder / "metrics.jsonl").write_text("")
    with pytest.raises(FileNotFoundError, match="elsewhere"), run_folder.claim(folder, "text"):
        Path("/elsewhere").read_text()


def test_a_backend_of_a_notebook_is_left_alone(monkeypatch):
    program = (
        "import os, spjax.analysis.figures\n"
        "print(os.environ['MPLBACKEND'], 'matplotlib.pyplot' in __import__('sys').modules)"
    )
    name = "module://matplotlib_inline.backend_inline"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MPLBACKEND": name},
    )
    assert done.stdout == f"{name} False\n", done.stderr
