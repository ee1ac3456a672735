import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.methods import initializers

TABLE = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
WORDS = {"good": (5, 6), "bad": (7,), "so so": (8, 9, 10), "": (), "Ω": (4, 2), "Bad": (7,)}


def start(initializer, length=4, labels=("good", "bad")):
    resolved = initializer.resolve(labels, WORDS.__getitem__)
    return np.asarray(resolved(jax.random.key(3), length, jnp.asarray(TABLE)))


def test_uniform_ranges():
    paper = start(initializers.Uniform(), 400)
    released = start(initializers.Uniform(0.0, 0.5), 400)
    assert -0.5 <= paper.min() < -0.45 and 0.45 < paper.max() < 0.5
    assert 0.0 <= released.min() < 0.05 and 0.45 < released.max() < 0.5


def test_sampled_vocabulary_takes_different_words_of_the_population():
    prompt = start(initializers.SampledVocabulary(10), 10)
    rows = [np.flatnonzero((TABLE == row).all(axis=1)).item() for row in prompt]
    assert sorted(rows) == list(range(10))
    assert start(initializers.SampledVocabulary(10), 12).shape == (12, 16)


def test_the_paper_s_population_and_its_share_of_a_small_table():
    def drawn(rows):
        table = jnp.arange(rows, dtype=jnp.float32)[:, None]
        return initializers.SampledVocabulary()(jax.random.key(0), 150, table)

    assert 4500 < drawn(32128).max() < 5000
    assert 160 < drawn(1152).max() < 180


def test_class_labels_are_means_and_the_rest_is_sampled():
    prompt = start(initializers.ClassLabels(population=10))
    np.testing.assert_allclose(prompt[0], TABLE[[5, 6]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(prompt[1], TABLE[7], rtol=1e-6)
    sampled = start(initializers.SampledVocabulary(10))
    np.testing.assert_array_equal(prompt[2:], sampled[2:])
    chosen = start(initializers.ClassLabels(labels=("so so",)), 1)
    np.testing.assert_allclose(chosen[0], TABLE[[8, 9, 10]].mean(axis=0), rtol=1e-6)


def test_class_labels_without_labels():
    with pytest.raises(ValueError, match="needs label words, and the task has none.*CLASS_LABELS"):
        start(initializers.ClassLabels(), labels=())


def test_bad_class_labels():
    with pytest.raises(ValueError, match="CLASS_LABELS is the text 'good'"):
        start(initializers.ClassLabels(labels="good"))
    with pytest.raises(ValueError, match="label word '' has no tokens"):
        start(initializers.ClassLabels(labels=("good", "")))


def test_words_that_the_vocabulary_lacks_or_confuses():
    with pytest.raises(ValueError, match="label word 'Ω' has pieces that the model's vocabulary l"):
        start(initializers.ClassLabels(labels=("good", "Ω")))
    with pytest.raises(ValueError, match="label words 'bad' and 'Bad' are the same tokens"):
        start(initializers.ClassLabels(labels=("bad", "Bad")))
    with pytest.raises(ValueError, match="initial text 'Ω' has pieces that the model's vocab"):
        start(initializers.Text("Ω"))


def test_what_finds_no_row_is_told_once(caplog):
    initializers._tell_dropped.cache_clear()
    for _ in range(2):
        start(initializers.ClassLabels(), 1)
        start(initializers.Text("so so"), 2)
        start(initializers.Text("so so"), 3)
    assert [record.message for record in caplog.records] == [
        "a prompt of 1 rows starts with the first of 2 label words",
        "a prompt of 2 rows starts with the first of 3 tokens of the initial text",
    ]


def test_text_fills_rows_in_order_and_is_cut():
    prompt = start(initializers.Text("so so"))
    np.testing.assert_array_equal(prompt[:3], TABLE[[8, 9, 10]])
    np.testing.assert_array_equal(start(initializers.Text("so so"), 2), TABLE[[8, 9]])
    with pytest.raises(ValueError, match="has no tokens"):
        start(initializers.Text(""))


def test_file(tmp_path):
    prompt = np.arange(64, dtype=np.float32).reshape(4, 16)
    np.save(tmp_path / "p.npy", prompt)
    np.testing.assert_array_equal(start(initializers.FromFile(str(tmp_path / "p.npy"))), prompt)
    np.save(tmp_path / "prompt.npy", prompt + 1)  # what a run leaves in its folder
    np.testing.assert_array_equal(start(initializers.FromFile(str(tmp_path))), prompt + 1)
    with pytest.raises(
        ValueError, match=r"shape \(4, 16\) .soft tokens, width., but \(5, 16\) is needed"
    ):
        start(initializers.FromFile(str(tmp_path / "p.npy")), 5)
    with pytest.raises(ValueError, match="cannot read .*missing.npy"):
        start(initializers.FromFile(str(tmp_path / "missing.npy")))
    np.save(tmp_path / "bad.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "text.npy", np.array(["a"]))
    for name, message in (("bad", "cannot read"), ("empty", "neither"), ("text", "has shape .1,.")):
        with pytest.raises(ValueError, match=message):
            start(initializers.FromFile(str(tmp_path / f"{name}.npy")), 1)
    np.save(tmp_path / "nan.npy", np.full((4, 16), np.nan, np.float32))
    with pytest.raises(ValueError, match="numbers that are not finite"):
        start(initializers.FromFile(str(tmp_path / "nan.npy")))
