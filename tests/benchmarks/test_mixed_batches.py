import json
import types

import pytest

from benchmarks import mixed_batches as bench


def test_kept_figures_are_those_of_the_program(capsys):
    kept = json.loads(bench.OUT.read_text())
    bench.show(kept)
    assert "OTHER ANSWERS" not in capsys.readouterr().out
    assert {(f["kind"], f["batch_size"]) for f in kept["figures"]} == {
        (kind, size) for kind in bench.KINDS for size in bench.BATCH_SIZES
    }
    assert kept["prompt_lengths"] == bench.BANK and kept["machine"]["commit"]


@pytest.mark.parametrize(
    "kind, counts", [("mixed", [4, 2]), ("separate", [3, 1, 1, 1]), ("sorted", [4, 2])]
)
def test_every_request_is_answered_once(kind, counts):
    asked = [(who, [1]) for who in (0, 1, 0, 0, 0, 1)]
    parts = list(bench.batches(kind, asked, 4))
    assert sorted(number for part in parts for number in part) == list(range(6))
    assert [len(part) for part in parts] == counts
    if kind != "mixed":
        assert all(len({asked[i][0] for i in part}) == 1 for part in parts)


class Echo:
    """Answers with what it was asked; under one prompt it is wrong where it is alone."""

    def __init__(self, wrong=None):
        self.wrong = wrong

    def answer(self, inputs, who):
        if len(set(who)) == 1 and who[0] == self.wrong:
            return [types.SimpleNamespace(text="?")] * len(who)
        return [types.SimpleNamespace(text=f"{w} {ids}") for w, ids in zip(who, inputs)]


def test_answers_come_in_order_and_are_compared(capsys):
    asked = [(who, [i]) for i, who in enumerate((0, 1, 0, 0, 0, 1))]
    expected = [f"{who} {ids}" for who, ids in asked]
    assert all(bench.answers(Echo(), kind, asked, 4) == expected for kind in bench.KINDS)
    figures = bench.measure(Echo(), asked, 4, 1)
    assert all(figure["equal_answers"] for figure in figures)
    bench.show({"figures": bench.measure(Echo(wrong=1), asked, 4, 1)})
    assert capsys.readouterr().out.count("OTHER ANSWERS") == 2
