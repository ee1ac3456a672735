import numpy as np
import pytest

from benchmarks import lengths, peft_peer


@pytest.mark.parametrize("name", lengths.QUANTILES)
def test_lengths_drawn_have_the_quantiles_of_the_task(name):
    inputs, _ = lengths.draw(name, 4000, seed=1)
    drawn = np.quantile([len(ids) for ids in inputs], lengths.LEVELS[1:-1])
    wanted = np.array(lengths.QUANTILES[name][1:-1])
    assert (abs(drawn - wanted) < 1 + 0.12 * wanted).all()


def test_ids_are_pieces_and_end_with_eos():
    inputs, targets = lengths.draw("boolq", 2000)
    assert max(map(len, inputs)) == lengths.LONGEST
    for ids in inputs + targets:
        assert ids.dtype == np.int32 and ids[-1] == 1
        assert ids[:-1].min() >= 3 and ids.max() < 32_000
    assert {len(ids) for ids in targets} == {2, 4}
    assert abs(np.mean([len(ids) == 2 for ids in targets]) - 0.623) < 0.05  # `True`


def test_targets_are_the_labels_of_the_task():
    from spjax.vocabularies import vocabulary

    pieces = vocabulary.load_vocabulary("t5")
    for name, labels in {"rte": ("entailment", "not_entailment"), "wic": ("False", "True")}.items():
        _, targets = lengths.draw(name, 50)
        assert {pieces.decode(ids[:-1].tolist()) for ids in targets} == set(labels)


def test_a_seed_gives_the_same_examples_again():
    first, again, other = (lengths.draw("wic", 20, seed=seed)[0] for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no lengths are known for 'sst2'; use one of boolq, rte"):
        lengths.draw("sst2", 1)


def test_the_peer_reads_what_was_saved(tmp_path):
    inputs, targets = lengths.draw("rte", 7)
    lengths.save(tmp_path / "examples.npz", inputs, targets)
    found = peft_peer.read(str(tmp_path / "examples.npz"))
    assert len(found) == 7
    for (x, y), ids, target in zip(found, inputs, targets):
        np.testing.assert_array_equal(x, ids)
        np.testing.assert_array_equal(y, target)
