import numpy as np
import pytest

from spjax.pretraining.span_corruption import EOS, Rows, prefix_lm, span_corruption, span_lengths


def test_lengths_are_those_of_t5():
    """The values that `random_spans_helper` gives (t5/data/preprocessors.py)."""
    assert span_lengths(512) == (568, 114)
    assert span_lengths(1024) == (1137, 229)


@pytest.mark.parametrize("length", [568, 1137])
def test_a_full_text_fills_inputs_and_targets_to_the_token(length):
    rng = np.random.default_rng(0)
    for _ in range(20):
        inputs, targets = span_corruption(np.arange(3, 3 + length), rng, 32_099)
        assert (len(inputs), len(targets)) == {568: (512, 114), 1137: (1024, 229)}[length]
        marks = inputs[inputs > 32_000]
        assert (marks == 32_099 - np.arange(len(marks))).all()  # <extra_id_0> is the last id
        assert (targets[targets > 32_000] == marks).all()
        assert inputs[0] < 32_000 and targets[0] == 32_099  # a text begins with what is kept


def test_a_text_of_one_token():
    rng = np.random.default_rng(0)
    inputs, targets = span_corruption(np.array([7]), rng, 500)
    assert inputs.tolist() == [7, EOS] and targets.tolist() == [500, EOS]
    inputs, targets = prefix_lm(np.array([7]), np.array([]), rng)
    assert inputs.tolist() == [EOS] and targets.tolist() == [7, EOS]


def test_every_cut_of_a_text_is_as_likely():
    rng, tokens = np.random.default_rng(0), np.arange(10, 21)
    cuts = [len(prefix_lm(tokens, np.array([]), rng)[0]) - 1 for _ in range(4000)]
    counts = np.bincount(cuts, minlength=11)
    assert not counts[0] and len(counts) == 11
    assert counts[1:].min() > 320 and counts[1:].max() < 480


@pytest.mark.parametrize("length", [2, 7, 40, 90, 190])
def test_span_corruption_hides_and_keeps_every_token_once(length):
    rng, tokens = np.random.default_rng(length), np.arange(10, 10 + length)
    for _ in range(20):
        inputs, targets = span_corruption(tokens, rng, first_sentinel=999)
        assert inputs[-1] == targets[-1] == EOS
        spans = {}
        for token in targets[:-1]:
            if token > 900:
                spans[int(token)] = current = []
            else:
                current.append(int(token))
        rebuilt = []
        for token in inputs[:-1]:
            rebuilt += spans.pop(int(token)) if token > 900 else [int(token)]
        assert rebuilt == tokens.tolist() and not spans
        hidden = len(targets) - 1 - (targets > 900).sum()
        assert hidden == {2: 1, 7: 1, 40: 6, 90: 14, 190: 29}[length]  # as T5


def test_prefix_lm_cuts_at_useful_places_most_of_the_time():
    rng, tokens = np.random.default_rng(0), np.arange(10, 60)
    cuts = []
    for _ in range(400):
        inputs, targets = prefix_lm(tokens, np.array([20, 35]), rng)
        assert np.concatenate([inputs[:-1], targets[:-1]]).tolist() == tokens.tolist()
        assert inputs[-1] == targets[-1] == EOS
        cuts.append(len(inputs) - 1)
    share = np.mean([cut in (20, 35) for cut in cuts])
    assert 0.9 < share < 0.99 and min(cuts) >= 1 and max(cuts) < 50


def test_rows_pack_every_example_whole_and_in_order():
    def example(number):
        size = number % 5 + 2
        return np.full(size, number + 10), np.full(size - 1, number + 10)

    batch, following = Rows(4, 12, 10).fill(example, 3)
    seen = {}
    for inputs, segments in zip(batch.inputs_BL, batch.input_segments_BL):
        for segment in range(1, segments.max() + 1):
            (number,) = set(inputs[segments == segment].tolist())
            seen[number - 10] = (segments == segment).sum()
    assert sorted(seen) == list(range(3, following))
    assert all(size == number % 5 + 2 for number, size in seen.items())
    assert ((batch.inputs_BL > 0) == (batch.input_segments_BL > 0)).all()
    again, second = Rows(4, 12, 10).fill(example, 3)
    assert second == following and (again.targets_BM == batch.targets_BM).all()
