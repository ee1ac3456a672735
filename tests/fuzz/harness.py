"""Calls the command line in this process with bad input, and says how it took it.

`SPJAX_FUZZ=3000 pytest tests/fuzz` tries that many inputs of each kind, a few hundred in all are
the default; `SPJAX_FUZZ_SEED` draws others. An input is named by its seed or its arguments, so that
it can be tried again alone.
"""

import collections
import contextlib
import dataclasses
import io
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

from spjax.cli import main

CLEAR, FINE, UNCLEAR, TRACEBACK, HANG, WRONGLY = KINDS = (
    "clear error",
    "rightly fine",
    "unclear error",
    "traceback",
    "hang",
    "accepted wrongly",
)
GOOD = (CLEAR, FINE)
SECONDS = 10
MEMORY = 6 << 30  # bytes that one input may ask for beyond what the process has
FEW = 12
AMOUNT = int(os.environ.get("SPJAX_FUZZ", FEW))
SEED = int(os.environ.get("SPJAX_FUZZ_SEED", 0))
COUNTS = collections.Counter()
_PIPES = set()


class Accepted(BaseException):
    """An input has passed all checks: what comes now would take long."""


class _TooLong(BaseException):
    pass


@dataclasses.dataclass(frozen=True)
class Outcome:
    """End of a call: one of `KINDS`, and what says so."""

    kind: str
    detail: str = ""
    output: str = ""


def command(argv, stdin=b""):
    """The outcome of `spjax ARGV`; `FINE` if it was accepted, rightly or not."""
    out, err = _stream(), _stream()
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8", errors="surrogateescape")
    with _replaced(stdin=given, stdout=out, stderr=err):
        outcome = _outcome(lambda: main.main(list(argv)))
    said, told = (stream.buffer.getvalue().decode(errors="replace") for stream in (err, out))
    if outcome.kind in (TRACEBACK, HANG):
        return outcome
    if "Traceback (most recent call last)" in said:
        return Outcome(TRACEBACK, said.strip().splitlines()[-1])
    if outcome.detail in ("0", "accepted"):
        return Outcome(FINE, outcome.detail, told)
    if outcome.detail not in ("1", "2", "130"):
        return Outcome(UNCLEAR, f"exit status {outcome.detail}")
    problem = unclear(said.rpartition("error: ")[2] if "error: " in said else said)
    return Outcome(UNCLEAR, problem) if problem else Outcome(CLEAR, said.strip())


def function(call):
    """The outcome of calling something that says ValueError of bad input."""
    outcome = _outcome(call, (ValueError,))
    if outcome.kind == FINE and outcome.detail.startswith("ValueError: "):
        text = outcome.detail.removeprefix("ValueError: ")
        problem = unclear(text)
        return Outcome(UNCLEAR, problem) if problem else Outcome(CLEAR, text)
    return outcome


def unclear(text):
    """Returns the reason why an error message is none for people, or ""."""
    first, *others = text.strip().splitlines() or [""]
    listed = all(line.startswith((" ", "- ", "\t", "spjax: ")) or not line for line in others)
    words = (
        "object at 0x",
        "Traceback",
        "Errno",
        "not supported between",
        "has no attribute",
        "unexpected keyword",
        "positional argument",
        "not iterable",
        "got NoneType",
    )
    if len(first.split()) < 4:
        return f"too short: {first!r}"
    if odd := [word for word in words if word in text]:
        return f"{odd[0]!r} in: {text.strip()[:300]}"
    if not listed or len(others) > 20:
        return f"not one line: {text.strip()[:300]}"
    return ""


def judged(outcome, fine):
    """The outcome, `WRONGLY` where something was accepted that should not have been."""
    if outcome.kind == FINE and not fine:
        outcome = Outcome(WRONGLY, outcome.detail, outcome.output)
    COUNTS[outcome.kind] += 1
    return outcome


def report(outcomes):
    """Fails with all inputs that were not taken well, those of one cause together.

    Args:
      outcomes: pairs of an input's name and its outcome.
    """
    bad = collections.defaultdict(list)
    shown = 5 if AMOUNT <= FEW else 100
    for name, outcome in outcomes:
        if outcome.kind not in GOOD:
            bad[outcome.kind, _alike(outcome.detail)].append(name)
    lines = [
        f"{kind}: {detail}\n"
        + "".join(f"    {str(name)[:300]}\n" for name in names[:shown])
        + (f"    and {len(names) - shown} more\n" if len(names) > shown else "")
        for (kind, detail), names in sorted(bad.items())
    ]
    assert not lines, f"{sum(map(len, bad.values()))} of {len(outcomes)}:\n" + "".join(lines)


def _alike(detail):
    """A detail without what differs from call to call."""
    return re.sub(r"0x[0-9a-f]{6,}|/tmp/pytest\S*/", "...", detail)


def _outcome(call, errors=()):
    try:
        with _limits():
            found = call()
    except _TooLong:
        return Outcome(HANG, f"more than {SECONDS} s in {_place(sys.exc_info()[1])}")
    except Accepted as what:
        return Outcome(FINE, "accepted", str(what))
    except SystemExit as end:
        return Outcome(FINE, str(end.code or 0))
    except errors as error:
        return Outcome(FINE, f"ValueError: {error}")
    except (Exception, KeyboardInterrupt) as error:
        text = (str(error).splitlines() or [""])[0][:90]
        return Outcome(TRACEBACK, f"{type(error).__name__}: {text} ({_place(error)})")
    return Outcome(FINE, str(found) if isinstance(found, int) else "")


def _place(error):
    """The last line of our own in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/spjax/" in f.filename]
    own = [f for f in frames if "/site-packages/" not in f.filename]
    return f"{own[-1].filename.rpartition('/spjax/')[2]}:{own[-1].lineno}" if own else "elsewhere"


def pipe(path):
    """A named pipe, which a library that waits for it, deaf to signals, can leave after a while."""
    os.mkfifo(path)
    _PIPES.add(str(path))


@contextlib.contextmanager
def _released():
    """Opens the pipes that there are for writing when time is up: a reader waits in `open`."""
    script = f"sleep {SECONDS + 1}; for x; do timeout 1 sh -c \": <> '$x'\"; done"
    pipes = [path for path in _PIPES if os.path.exists(path)]
    helper = subprocess.Popen(["sh", "-c", script, "sh", *pipes], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(helper.pid, signal.SIGKILL)
        helper.wait()


@contextlib.contextmanager
def _limits():
    def stop(*_):
        raise _TooLong

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pytest makes errors of some
            with _released() if any(map(os.path.exists, _PIPES)) else contextlib.nullcontext():
                yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _stream():
    return io.TextIOWrapper(
        io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True
    )


@contextlib.contextmanager
def _replaced(**streams):
    before = {name: getattr(sys, name) for name in streams}
    for name, stream in streams.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def spread(cases, rng, amount=AMOUNT):
    """Some of many cases, or all of few, in an order of their own."""
    cases = list(cases)
    chosen = rng.permutation(len(cases))[: max(amount, 1)]
    return [cases[i] for i in chosen]
