"""The progress of a sweep: time left, stages, and the number of lines."""

import io

import pytest

from spjax.studies import progress
from spjax.studies.plan import RunSpec

LABELS = {"task": "boolq", "model": "small", "method": "prompt_tuning", "prompt_length": 5}


def spec(seed, seconds=100.0):
    return RunSpec(f"{seed:012}", ("a",), "", (), "", 1, seconds, {**LABELS, "seed": seed})


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def event(step, stage="training", scores=()):
    return {"type": "progress", "step": step, "steps": 100, "stage": stage, "scores": scores}


def test_no_time_left_before_a_run_has_ended(clock):
    shown = progress.Progress(3, 0, 300.0)
    shown.out = io.StringIO()
    shown.begin(0, [spec(0)])
    clock[0] += 75
    shown.update(0, event(0, "compiling"))
    shown.show(force=True)
    clock[0] += 20
    shown.update(0, event(50))
    assert shown.time_left() is None
    clock[0] += 5
    shown.end(0, "done")
    assert shown.time_left() == pytest.approx(200)  # 100 s each, as this one took
    shown.begin(0, [spec(1)])
    shown.update(0, event(50, scores=[61.25]))
    shown.show(force=True)
    first, second = shown.out.getvalue().splitlines()
    assert first == (
        "0/3 runs finished, 75 s elapsed. Now: boolq small prompt_tuning P=5 seed 0: compiling"
    )
    assert second == (
        "1/3 runs finished, 2 min elapsed, 2 min left. Now: boolq small prompt_tuning P=5 seed 1: "
        "training 50/100, validation score 61.2"
    )


@pytest.mark.parametrize(
    "seeds, scores, expected",
    [
        ([0, 1], [61.0, 70.0], "seed 0,1: training 50/100, validation score 61.0, 70.0"),
        (
            range(5),
            [9.0, 5, 7, 6, 8],
            "seed 0 and 4 more: training 50/100, validation score 5.0 to 9.0",
        ),
        ([0, 0], [], "seed 0 and 1 more: training 50/100"),
    ],
)
def test_runs_of_a_gang_are_described_in_short(clock, seeds, scores, expected):
    shown = progress.Progress(9, 0, 300.0)
    shown.out = io.StringIO()
    shown.begin(0, [spec(seed) for seed in seeds])
    shown.update(0, event(50, scores=scores))
    shown.show(force=True)
    assert shown.out.getvalue().splitlines()[0].endswith(expected)


def test_lines_get_fewer(clock):
    shown = progress.Progress(1, 0, 100.0)
    shown.out, counts = io.StringIO(), []
    for _ in range(3 * 3600):
        clock[0] += 1
        shown.show()
        counts.append(shown.out.getvalue().count("\n"))
    assert counts[59] in (5, 6) and counts[3599] < 80 and counts[-1] - counts[7199] <= 13
