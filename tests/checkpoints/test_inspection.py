"""Nearest words and norms on tables small enough to check by hand."""

import ml_dtypes
import numpy as np
import pytest

from spjax.checkpoints import inspection
from spjax.checkpoints.prompts import Prompt
from spjax.data import vocabulary


class Words:
    """Four words at the corners of a square, one of them with an odd character."""

    size = 4

    def piece(self, token):
        return ("▁up", "▁right", "▁diagonal", "\n")[token]


# The fifth row has no word: the table is padded.
EMBEDDING = np.array([[0, 2], [3, 0], [1, 1], [0, -1], [-5, 0]], np.float32)
ROWS = np.array([[30, 40], [0, 0], [0, -2], [-1, 0]], np.float32)


def test_nearest_words_by_hand():
    ids, cosines = inspection.nearest_words(ROWS, EMBEDDING, 3)
    assert ids.tolist() == [[2, 0, 1], [0, 1, 2], [3, 1, 4], [4, 0, 3]]
    np.testing.assert_allclose(cosines[0], [0.7 * 2**0.5, 0.8, 0.6], rtol=1e-6)
    assert not cosines[1].any() and cosines[3].tolist() == [1, 0, 0]


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(50, 6)).astype(np.float32), rng.normal(size=(9, 6))
    whole = inspection.nearest_words(rows, table, 7)
    monkeypatch.setattr(inspection, "_CHUNK", 4)
    parts = inspection.nearest_words(rows, table, 7)
    assert (whole[0] == parts[0]).all()
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-6)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    expected = np.argsort(-(rows @ unit.T), axis=1)[:, :7]
    assert (whole[0] == expected).all()
    assert inspection.rms(table) == pytest.approx(np.sqrt(np.mean(table.astype(float) ** 2)))


def test_more_neighbours_than_words_and_extreme_rows():
    rows = np.array([[3e38, 3e38], [1e-45, 0]], np.float32)
    ids, cosines = inspection.nearest_words(rows, EMBEDDING.astype(ml_dtypes.bfloat16), 99)
    assert ids.shape == (2, 5) and ids[0, 0] == 2 and ids[1, 0] == 1
    np.testing.assert_allclose(cosines[:, 0], 1, rtol=1e-6)
    assert inspection.row_norms(rows)[0] == pytest.approx(4.243e38, rel=1e-3)


def test_page():
    prompt = Prompt(ROWS, {"model": "square", "step": "20"}, "a.npy (.npy)")
    page = inspection.describe(prompt, EMBEDDING, Words(), 2)
    assert page.splitlines() == [
        "prompt       a.npy (.npy)",
        "shape        4 rows x 2",
        "row norm     min 0, mean 13.25, max 50",
        "element RMS  17.7 (the model's embeddings: 2.025)",
        "model        square",
        "step         20",
        "",
        "row  norm  nearest words by cosine",
        "0    50    ▁diagonal 0.99   ▁up 0.80",
        "1    0     ▁up 0.00         ▁right 0.00",
        "2    2     '\\n' 1.00        ▁right 0.00",
        "3    1     <unused 4> 1.00  ▁up 0.00",
    ]


def test_page_without_model_or_provenance():
    page = inspection.describe(Prompt(ROWS))
    assert "provenance   not recorded" in page and "nearest" not in page
    assert "0    50    2 0.99" in inspection.describe(Prompt(ROWS), EMBEDDING, None, 1)


def test_special_pieces_and_sentinels_of_a_real_vocabulary():
    words = vocabulary.load("pocket")
    table = np.eye(words.size + 2, dtype=np.float32)
    ids = [0, 1, 2, words.sentinel(0), words.sentinel(99), words.size + 1]
    page = inspection.describe(Prompt(table[ids]), table, words, 1)
    spelled = [line.split("  ")[-1].strip() for line in page.splitlines()[-len(ids) :]]
    assert [word.rsplit(" ", 1)[0] for word in spelled] == [
        "<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>", f"<unused {words.size + 1}>"
    ]  # fmt: skip


def test_another_width_or_no_neighbours():
    with pytest.raises(ValueError, match="prompt has width 2, but the model's embeddings have 3"):
        inspection.describe(Prompt(ROWS), np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="neighbours is 0; it must be at least 1"):
        inspection.describe(Prompt(ROWS), EMBEDDING, Words(), 0)
