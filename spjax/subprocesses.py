"""Child processes: how they are started, what they answer, and how they end.

`run` calls a function of a module in other processes. A process gets one JSON request on standard
input and writes, as the last line of standard output, `{"result": ...}`, `{"error": message}` after
an OSError, or `{"invalid": message}` after a ValueError; the parent raises the same error. Whatever
else ends a process is a RuntimeError with the end of its standard error. When the parent is
interrupted, all its processes are killed; when it is killed, they end within a second.

`start`, `describe_end` and `tail` are for the workers of `spjax.studies.worker_process` too. They
differ in that they stay warm and get many orders, so that they read lines until standard input
closes, which is also how they notice the end of their parent, and send events through a pipe.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from spjax.files import default_cache_dir

VARIABLE = "SPJAX_PARENT_PROCESS"
_POLL_SECONDS = 0.5
_WAIT_SECONDS = 0.1
_TAIL_LINES = 20
_ORPHANED = 3  # exit status

_log = logging.getLogger(__name__)


def run(
    function: str,
    requests: Sequence[Any],
    purpose: str,
    *,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    while_waiting: Callable[[], None] | None = None,
) -> list[Any]:
    """Calls a function in one process for each request, side by side, and returns the results.

    The first failure ends the other processes.

    Args:
      function: `MODULE:NAME`; it takes the request and returns something JSON can hold.
      requests: one argument of the function for each process.
      purpose: what a process does, for messages, such as "builds the token cache".
      python: the interpreter.
      variables: of the environment, beside those of this process.
      pass_fds: file descriptors that the processes inherit, such as that of a lock.
      while_waiting: called about ten times a second until all processes have ended.

    Raises:
      OSError, ValueError: as raised by the function, with its message.
      RuntimeError: a process ended in another way, or without an answer.
    """
    children: list[_Child] = []
    try:
        for request in requests:
            children.append(_Child(function, request, purpose, python, variables or {}, pass_fds))
        while running := [child for child in children if child.process.poll() is None]:
            for child in children:
                child.check()
            if while_waiting:
                while_waiting()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].process.wait(_WAIT_SECONDS)
        return [child.result() for child in children]
    finally:
        for child in children:  # they live only after a failure or Ctrl-C
            child.stop()


class _Child:
    """A process that answers one request, and the files it writes to."""

    def __init__(
        self,
        function: str,
        request: Any,
        purpose: str,
        python: str,
        variables: Mapping[str, str],
        pass_fds: Sequence[int],
    ) -> None:
        self.purpose = purpose
        text = json.dumps(request).encode()
        # Files, not pipes: neither side waits for the other.
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as stdin:
            stdin.write(text)
            stdin.seek(0)
            try:
                self.process = start(
                    "spjax.subprocesses",
                    [function],
                    python=python,
                    variables=variables,
                    pass_fds=pass_fds,
                    stdin=stdin,
                    stdout=self.out,
                    stderr=self.err,
                )
            except OSError as error:
                self.out.close()
                self.err.close()
                raise RuntimeError(
                    f"the process that {purpose} could not be started: {error}"
                ) from error

    def check(self) -> None:
        """Raises an error if the process has failed."""
        if self.process.poll():
            self.result()

    def result(self) -> Any:
        """Returns the result of a process that has ended."""
        answer, log = _last_line(_read(self.out)), _read(self.err)
        if "error" in answer:
            raise OSError(answer["error"])
        if "invalid" in answer:
            _log.debug("the process that %s wrote: %s", self.purpose, log)
            raise ValueError(answer["invalid"])
        if self.process.returncode or "result" not in answer:
            end = describe_end(self.process.returncode)
            raise RuntimeError(f"the process that {self.purpose} {end}:\n{tail(log)}")
        return answer["result"]

    def stop(self) -> None:
        """Ends the process, if it is running, and closes its files."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: IO[bytes] | int = subprocess.PIPE,
    stdout: IO[bytes],
    stderr: IO[bytes] | int,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts `python -m MODULE`, which finds the same spjax and can tell when this process ends."""
    package, paths = Path(__file__).resolve().parent, os.environ.get("PYTHONPATH", "")
    is_installed = package.parent.name in ("site-packages", "dist-packages")
    if not is_installed:
        paths = os.pathsep.join(filter(None, [str(package.parent), paths]))
    elif python != sys.executable:
        # Packages beside an installed spjax would come before the interpreter's own.
        paths = os.pathsep.join(filter(None, [str(_folder_of(package)), paths]))
    environment = {
        **os.environ,
        **({"PYTHONPATH": paths} if paths else {}),
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        VARIABLE: str(os.getpid()),
        **(variables or {}),
    }
    return subprocess.Popen(
        [python, "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=start_new_session,
    )


def _folder_of(package: Path) -> Path:
    """Returns a folder in which Python finds this package and no other."""
    name = hashlib.sha256(str(package).encode()).hexdigest()[:16]
    folder = default_cache_dir() / "packages" / name
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / package.name).symlink_to(package, target_is_directory=True)
    return folder


def describe_end(returncode: int) -> str:
    """Returns a text such as "ended with status 1" or "was ended by SIGSEGV"."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"was ended by {name}" + (" (often: out of memory)" if name == "SIGKILL" else "")


def tail(text: str) -> str:
    """Returns the last lines of what a process wrote."""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_line(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):  # it ended without an answer
        return {}
    return answer if isinstance(answer, dict) else {}


def exit_with_parent() -> None:
    """Starts a thread that ends this process once the parent named in the environment ends.

    Without that variable, as when a process is started by hand, nothing is watched.
    """
    parent = os.environ.get(VARIABLE, "")
    if parent.isdigit():
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(_ORPHANED)  # the main thread may be inside a long call of TensorFlow


def main(argv: Sequence[str] | None = None) -> int:
    """Answers the request on standard input with the function `MODULE:NAME`, the only argument.

    Returns:
      The exit status: 0 with a result, 1 with an error.
    """
    exit_with_parent()  # now, because importing TensorFlow takes seconds
    (function,) = sys.argv[1:] if argv is None else argv
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    try:
        answer = {"result": call(json.load(sys.stdin))}
    except (OSError, ValueError) as error:
        traceback.print_exc()  # for the log; the message alone is for users
        answer = {"error" if isinstance(error, OSError) else "invalid": str(error)}
    print(json.dumps(answer), flush=True)
    return 0 if "result" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
