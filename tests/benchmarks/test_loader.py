import json

from benchmarks import loader


def test_kept_figures_are_those_of_the_program_and_hold(capsys):
    kept = json.loads((loader.ROOT / "benchmarks/results/loader.json").read_text())
    loader.show(kept)
    text = capsys.readouterr().out
    assert "below" not in text and text.count("times seqio cached") == len(loader.BATCH_SIZES)
    assert {(f["reader"], f["batch_size"]) for f in kept["figures"]} == {
        (kind, size) for kind in loader.KINDS for size in loader.BATCH_SIZES
    }
    first, *_, last = kept["resident_bytes"]
    assert len(kept["resident_bytes"]) == loader.EPOCHS and last <= 1.02 * first


def test_a_slow_loader_is_told(capsys):
    names = {"per_cpu_s": 1.0, "first_s": 1.0, "first_warm_s": 1.0}
    figures = [
        {"reader": kind, "batch_size": size, "per_s": 4.0 if kind == "spjax" else 1.0} | names
        for kind in loader.KINDS
        for size in loader.BATCH_SIZES
    ]
    loader.show({"figures": figures, "resident_bytes": [1], "build_s": 2.0, "records": 3})
    told = "4.0 times seqio cached, 1.0 by CPU time  below 5"
    assert capsys.readouterr().out.count(told) == len(loader.BATCH_SIZES)
