"""Nearest words and norms on tables small enough to check by hand."""

import ml_dtypes
import numpy as np
import pytest

from spjax.analysis import interpretation, prompt_page
from spjax.analysis.figures import _heat_map
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.vocabularies import vocabulary


class Words:
    """Four words at the corners of a square, one of them with an odd character."""

    size = 4

    def piece(self, token):
        return ("▁up", "▁right", "▁diagonal", "\n")[token]

    def encode(self, text):
        names = {"up": 0, "right": 1, "diagonal": 2}
        return [names[word] for word in text.split()]


# The fifth row has no word: the table is padded.
EMBEDDING = np.array([[0, 2], [3, 0], [1, 1], [0, -1], [-5, 0]], np.float32)
ROWS = np.array([[30, 40], [0, 0], [0, -2], [-1, 0]], np.float32)


def test_nearest_words_by_hand():
    ids, cosines = interpretation.nearest_words(ROWS, EMBEDDING, 3)
    assert ids.tolist() == [[2, 0, 1], [0, 1, 2], [3, 1, 4], [4, 0, 3]]
    np.testing.assert_allclose(cosines[0], [0.7 * 2**0.5, 0.8, 0.6], rtol=1e-6)
    assert not cosines[1].any() and cosines[3].tolist() == [1, 0, 0]


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(50, 6)).astype(np.float32), rng.normal(size=(9, 6))
    whole = interpretation.nearest_words(rows, table, 7)
    monkeypatch.setattr(interpretation, "_CHUNK", 4)
    parts = interpretation.nearest_words(rows, table, 7)
    assert (whole[0] == parts[0]).all()
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-6)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    expected = np.argsort(-(rows @ unit.T), axis=1)[:, :7]
    assert (whole[0] == expected).all()
    assert interpretation.rms(table) == pytest.approx(np.sqrt(np.mean(table.astype(float) ** 2)))


def test_more_neighbors_than_words_and_extreme_rows():
    rows = np.array([[3e38, 3e38], [1e-45, 0]], np.float32)
    ids, cosines = interpretation.nearest_words(rows, EMBEDDING.astype(ml_dtypes.bfloat16), 99)
    assert ids.shape == (2, 5) and ids[0, 0] == 2 and ids[1, 0] == 1
    np.testing.assert_allclose(cosines[:, 0], 1, rtol=1e-6)
    assert interpretation.row_norms(rows)[0] == pytest.approx(4.243e38, rel=1e-3)


def describe(*args, **options):
    return prompt_page.page(interpretation.examine(*args, **options))


def test_page():
    prompt = Prompt.from_array(ROWS, {"model": "square", "step": "20"}, "a.npy (.npy)")
    page = describe(prompt, EMBEDDING, Words(), 2, labels=("up", "diagonal right"))
    assert page.splitlines() == [
        "prompt       a.npy (.npy)",
        "shape        4 rows x 2",
        "row norm     min 0, mean 13.25, max 50",
        "element RMS  17.7 (the model's embeddings: 2.025)",
        "row cosine   mean -0.23, largest 0.00 (rows 0 and 1)",
        "model        square",
        "step         20",
        "",
        "row  norm  cluster  nearest words by cosine",
        "0    50    0.71     ▁diagonal 0.99   ▁up 0.80",
        "1    0     0.00     ▁up 0.00         ▁right 0.00",
        "2    2     0.00     '\\n' 1.00        ▁right 0.00",
        "3    1     0.00     <unused 4> 1.00  ▁up 0.00",
        "",
        (
            "cluster: mean cosine between a row's nearest words; over all rows 0.18, around random "
            "vectors 0.35"
        ),
        "",
        "label           best rank  at row  among the nearest words of rows",
        "up              1          1       0, 1, 3",
        "diagonal right  1          1       1",
    ]


def test_page_without_model_or_provenance():
    page = describe(Prompt.from_array(ROWS))
    assert "provenance   not recorded" in page and "nearest" not in page
    assert "0    50    2 0.99" in describe(Prompt.from_array(ROWS), EMBEDDING, None, 1)
    assert "row cosine" not in describe(Prompt.from_array(ROWS[:1]))


def test_euclidean_distances_are_exact_where_float32_would_round():
    ids, distances = interpretation.nearest_words(ROWS, EMBEDDING, 2, "euclidean")
    assert ids[:2].tolist() == [[1, 0], [3, 2]]
    np.testing.assert_allclose(distances[0], [np.hypot(27, 40), np.hypot(30, 38)])
    far = np.float32([[4096.0, 4096.0 + 2**-10], [4096.0, 4096.0 + 3 * 2**-10]])
    assert interpretation.nearest_words(far[1:], far, 2, "euclidean")[0].tolist() == [[1, 0]]
    assert interpretation.nearest_words(far[:1], far, 2, "euclidean")[0].tolist() == [[0, 1]]


def test_ranks_count_the_nearer_words():
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(50, 6)).astype(np.float32), rng.normal(size=(9, 6))
    rows = rows.astype(np.float32)
    ids, _ = interpretation.nearest_words(rows, table, 50)
    found = interpretation.ranks(rows, table[[7, 30]], table)
    for label, word in enumerate((7, 30)):
        assert found[label].tolist() == [1 + row.tolist().index(word) for row in ids]


def test_tight_clusters_and_shared_words():
    table = np.float32([[1, 0.1, 0], [1, 0, 0.1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    rows = Prompt.from_array(np.float32([[2, 0, 0], [1, 0.01, 0.01], [0, 3, 1]]))
    found = interpretation.examine(rows, table, None, 3)
    tight = found["cluster"]["rows"]
    assert tight[0] == tight[1] > 0.98 > tight[2]
    pairs = [0.995, 0.995, 1 / 1.01]  # of words 0, 1 and 2 with each other
    assert tight[0] == pytest.approx(np.mean(pairs), abs=1e-3)
    assert found["shared"] == {"2": [0, 1]}
    assert "nearest of several rows: 2 (0, 1)" in prompt_page.page(found)


def test_similarities_of_prompts():
    one, other = (
        Prompt.from_array(np.float32([[1, 0], [0, 1]])),
        Prompt.from_array(np.float32([[5, 0]])),
    )
    found = interpretation.similarities([one, other])
    half = 2**-0.5
    np.testing.assert_allclose(found["average"], [[1, half], [half, 1]], atol=1e-6)
    np.testing.assert_allclose(found["per_token"], [[0.5, 0.5], [0.5, 1]], atol=1e-6)
    text = prompt_page.matrix(["a", "b"], found["average"], "cosine")
    assert text.splitlines()[2].split() == ["b", "0.707", "1.000"]
    with pytest.raises(ValueError, match=r"rows of the widths \[2, 3\]; compare prompts of one"):
        interpretation.similarities([one, Prompt.from_array(np.ones((1, 3), np.float32))])


def test_the_heat_map_has_its_numbers_beside_it(tmp_path):
    values = np.float32([[1, 0.25], [0.25, 1]])
    paths = _heat_map.draw(["cb", "wic"], values, "likeness", tmp_path / "alike.png")
    assert [path.name for path in paths] == ["alike.png", "alike.svg", "alike.csv"]
    lines = ["prompt,cb,wic", "cb,1.0,0.25", "wic,0.25,1.0"]
    assert paths[2].read_text().splitlines() == lines


def test_how_much_of_a_text_is_left():
    found = interpretation.examine(
        Prompt.from_array(ROWS), EMBEDDING, Words(), 1, text="diagonal right up"
    )
    assert found["text"] == {"tokens": 3, "recovered": 1}
    assert "of the text: 1 of 3 rows have their own word nearest" in prompt_page.page(found)


def test_a_discretised_prompt_is_made_of_words():
    facts = {"task": "t", "step": "3", "validation_score": "50.0"}
    made = interpretation.discretised(
        Prompt.from_array(ROWS[[0, 2]], facts), EMBEDDING, Words(), "cosine"
    )
    assert made.soft_tokens_PD.tolist() == EMBEDDING[[2, 3]].tolist()
    assert made.provenance == {
        "task": "t",
        "step": "3",
        "discretised": "cosine",
        "words": "▁diagonal '\\n'",
    }


def test_special_pieces_and_sentinels_of_a_real_vocabulary():
    words = vocabulary.load_vocabulary("pocket")
    table = np.eye(words.size + 2, dtype=np.float32)
    ids = [0, 1, 2, words.sentinel(0), words.sentinel(99), words.size + 1]
    found = interpretation.examine(Prompt.from_array(table[ids]), table, words, 1)
    assert [row["nearest"] for row in found["rows"]] == [
        [[word, 1.0]]
        for word in (
            "<pad>",
            "</s>",
            "<unk>",
            "<extra_id_0>",
            "<extra_id_99>",
            f"<unused {words.size + 1}>",
        )
    ]


def test_mistakes():
    with pytest.raises(ValueError, match="prompt has width 2, but the model's embeddings have 3"):
        interpretation.examine(Prompt.from_array(ROWS), np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="neighbours is 0; it must be at least 1"):
        interpretation.examine(Prompt.from_array(ROWS), EMBEDDING, Words(), 0)
    with pytest.raises(ValueError, match="the label '' has no tokens; give a list of words"):
        interpretation.examine(Prompt.from_array(ROWS), EMBEDDING, Words(), labels=("up", ""))
    with pytest.raises(ValueError, match="unknown metric 'dot'; use one of cosine, euclidean"):
        interpretation.nearest_words(ROWS, EMBEDDING, 1, "dot")
