"""The display of `spjax train`: lines elsewhere than on a terminal, a bar on one."""

import io

import pytest

from spjax.cli import train_display
from spjax.cli.train_display import TrainDisplay
from spjax.training.loop import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the tests move."""
    now = [0.0]
    monkeypatch.setattr(train_display.time, "monotonic", lambda: now[0])
    return now


def reports(clock, display, steps, seconds, every=1):
    """A run whose compilation takes a minute, with an evaluation after each tenth."""
    display(Progress(0, steps, "loading"))
    clock[0] += 5
    display(Progress(0, steps, "compiling"))
    clock[0] += 60
    for step in range(every, steps + 1, every):
        scores = (50.0 + step / steps,) if step > steps // 10 else ()
        if step % (steps // 10) == 0:
            display(Progress(step, steps, "evaluating" if scores else "compiling", scores))
            clock[0] += 0.1 if scores else 30
        display(Progress(step, steps, "training", scores))
        clock[0] += seconds * every


def test_a_dozen_lines_and_the_first_step(clock):
    out = io.StringIO()
    with TrainDisplay(out) as display:
        reports(clock, display, 200, 0.1)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["loading", "compiling", "training 1/200"] and len(lines) == 13
    assert lines[3].startswith("training 20/200")
    assert lines[-1] == "training 200/200, 9.6 steps/s, validation score 51.0"
    assert lines[4] == "training 40/200, 9.8 steps/s, 16 s left, validation score 50.2"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_an_interrupted_run_says_where_it_goes_on(clock, stream, capsys):
    def shown():
        return out.getvalue() + capsys.readouterr().out

    out = stream()
    with TrainDisplay(out) as display:
        display(Progress(0, 100, "loading"))
        display(Progress(50, 100, "compiling"))
        display(Progress(60, 100, "compiling"))
        display(Progress(60, 100, "training"))
    text = shown()
    assert text.count("resuming from step 50") == 1 and "resuming from step 60" not in text
    out = stream()
    with TrainDisplay(out) as display:
        reports(clock, display, 20, 1.0)
    assert "resuming" not in shown()


def test_a_slow_run_has_a_line_every_five_minutes(clock):
    out = io.StringIO()
    with TrainDisplay(out) as display:
        reports(clock, display, 20, 200.0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 13 and lines[-2].startswith("evaluating 18/20, 200.0 s a step, 7 min left")


def test_no_time_left_without_a_basis(clock):
    """Neither compilation nor the first moment of training is one."""
    display = TrainDisplay(io.StringIO())
    assert display.time_left() is None
    display(Progress(0, 100, "compiling"))
    clock[0] += 100
    display(Progress(1, 100, "training"))
    clock[0] += 1
    display(Progress(11, 100, "training"))
    assert display.time_left() is None and display.rate() is None
    clock[0] += 1
    display(Progress(21, 100, "training"))
    assert display.rate() == 10 and display.time_left() == pytest.approx(7.9)


def test_a_resumed_run_counts_its_own_steps(clock):
    display = TrainDisplay(io.StringIO())
    for step in (5000, 5100, 5200):
        display(Progress(step, 6000, "training"))
        clock[0] += 10
    assert display.rate() == 10 and display.time_left() == 80


def test_a_bar_on_a_terminal(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with TrainDisplay(Terminal()) as display:
        reports(clock, display, 200, 0.1)
        console = display.live.console
        with console.capture() as captured:
            console.print(display._bar())
    text = captured.get()
    for word in ("training", "200/200", "9.6 steps/s", "validation score"):
        assert word in text
    assert "loading\n" not in display.out.getvalue()
