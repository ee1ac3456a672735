import json

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


@pytest.mark.parametrize("kind, counts", [("mixed", [4, 2]), ("separate", [3, 1, 1, 1]),
                                          ("sorted", [4, 1, 1])])  # fmt: skip
def test_every_request_is_answered_once(kind, counts):
    asked = [(who, [1]) for who in (0, 1, 0, 0, 0, 1)]
    parts = list(bench.batches(kind, asked, 4))
    assert sorted(number for part in parts for number in part) == list(range(6))
    assert [len(part) for part in parts] == counts
    if kind != "mixed":
        assert all(len({asked[i][0] for i in part}) == 1 for part in parts)


def test_all_ways_give_the_same_answers():
    lengths = {"cb": 1, "rte": 6}
    predictor, asked = bench.bank("pocket_50k", lengths), bench.requests(12, lengths)
    found = bench.measure(predictor, asked, 5, 1)
    assert all(figure["equal_answers"] and figure["per_s"] > 0 for figure in found)
    assert [figure["batches"] for figure in found] == [3, 6, 4]
