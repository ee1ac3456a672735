import numpy as np
import pytest

from spjax.training.denoising import EOS, Rows, prefix_lm, span_corruption


@pytest.mark.parametrize("length", [2, 7, 40, 90])
def test_span_corruption_hides_and_keeps_every_token_once(length):
    rng, tokens = np.random.default_rng(length), np.arange(10, 10 + length)
    for _ in range(20):
        inputs, targets = span_corruption(tokens, rng, first_sentinel=500)
        assert inputs[-1] == targets[-1] == EOS
        spans = {}
        for token in targets[:-1]:
            if token > 400:
                spans[int(token)] = current = []
            else:
                current.append(int(token))
        rebuilt = []
        for token in inputs[:-1]:
            rebuilt += spans.pop(int(token)) if token > 400 else [int(token)]
        assert rebuilt == tokens.tolist() and not spans
        hidden = len(targets) - 1 - (targets > 400).sum()
        assert hidden == max(round(length * 0.15), 1)


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
