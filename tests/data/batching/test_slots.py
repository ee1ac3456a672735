"""Templates: where rows of a prompt stand among words and fields."""

import dataclasses

import numpy as np
import pytest

from spjax.data.batching import batching, slots
from spjax.data.token_cache import cache_files
from spjax.data.token_cache.cache import CachedSplit

TEXTS = [
    "hypothesis: the bird sings premise: the bird sits in the old tree and sings a song",
    "hypothesis: she has the book now premise: he said: it is not in the house",
]
TEMPLATE = "{p:3} {premise} is {p:2} answer: {p:1} {hypothesis}"


@pytest.fixture
def split(tmp_path, vocabulary):
    def example(text):
        return np.array([*vocabulary.encode(text), 1]), np.array([50, 1]), {"inputs_text": text}

    cache_files.write(tmp_path / "s", {}, [example(text) for text in TEXTS])
    lengths = {"inputs": 64, "targets": 16}
    return CachedSplit("task", "train", tmp_path / "s", lengths, *cache_files.read(tmp_path / "s"))


def spelled(ids, vocabulary):
    """Words, and the number of a row where there is one."""
    found, run = [], []
    for token in [*ids, -1000]:
        if token < 0:
            found += [vocabulary.decode(run)] if run else []
            found, run = [*found, -1 - int(token)], []
        else:
            run.append(int(token))
    return found[:-1]


def test_rows_words_and_fields(split, vocabulary):
    placed = slots.insert_slots(split, TEMPLATE, vocabulary)
    assert spelled(placed.inputs[0], vocabulary) == [
        *(0, 1, 2),
        "the bird sits in the old tree and sings a song is",
        3,
        4,
        "answer:",
        5,
        "the bird sings",
    ]
    # Only what all texts have is a field: "said" is not.
    assert spelled(placed.inputs[1], vocabulary)[3] == "he said: it is not in the house is"
    assert placed.inputs[1][-1] == 1 and placed.targets is split.targets
    whole = slots.insert_slots(split, "{inputs}{p:1}", vocabulary)
    assert whole.inputs[0].tolist() == [*split.inputs[0][:-1], -1, 1]


def test_batches_have_slots_where_the_template_says(split, vocabulary):
    placed = slots.insert_slots(split, TEMPLATE, vocabulary)
    layout = batching.make_layout([placed], prompt_length=6, insertion=TEMPLATE)
    batch = batching.rows(placed, np.arange(2), layout)
    for i in range(2):
        ids, real = placed.inputs[i], batch["input_segments_BL"][i] > 0
        assert real.sum() == len(ids) <= layout.row_length
        where = batch["slots_BL"][i][real]
        np.testing.assert_array_equal(where, np.where(ids < 0, -1 - ids, -1))
        np.testing.assert_array_equal(batch["inputs_BL"][i][real], np.maximum(ids, 0))
        assert (batch["slots_BL"][i][~real] == -1).all()


def test_the_longest_field_is_cut(split, vocabulary):
    full = slots.insert_slots(split, TEMPLATE, vocabulary).inputs[0]
    short = dataclasses.replace(split, lengths={"inputs": (full >= 0).sum() - 5, "targets": 16})
    cut = slots.insert_slots(short, TEMPLATE, vocabulary).inputs[0]
    assert (cut >= 0).sum() == short.lengths["inputs"]
    assert [token for token in cut if token < 0] == [-1, -2, -3, -4, -5, -6]
    assert spelled(cut, vocabulary)[-3:] == ["answer:", 5, "the bird sings"]


def test_one_text_is_placed_as_in_its_split(split, vocabulary):
    names = slots.names_of(TEXTS)
    assert names == ["hypothesis", "premise"]
    for length in (64, 16):
        short = dataclasses.replace(split, lengths={"inputs": length, "targets": 16})
        for template in (TEMPLATE, "{p:2} {inputs} {p:1}", "{hypothesis} {p:1}"):
            placed = slots.insert_slots(short, template, vocabulary)
            for i, text in enumerate(TEXTS):
                one = text, template, names, vocabulary
                ids, before = slots.insert_slots_in_text(*one, length)
                assert ids == placed.inputs[i].tolist()
                whole = slots.insert_slots_in_text(*one, 1000)[0]
                assert before == sum(token >= 0 for token in whole)
    # Where nobody knows the names of the task, those of the template count.
    ids, _ = slots.insert_slots_in_text(TEXTS[0], TEMPLATE, (), vocabulary, 64)
    assert ids == slots.insert_slots(split, TEMPLATE, vocabulary).inputs[0].tolist()
    fields = {
        "premise": "the bird sits in the old tree and sings a song",
        "hypothesis": "the bird sings",
    }
    assert slots.insert_slots_in_text(fields, TEMPLATE, names, vocabulary, 64)[0] == ids
    for given in ("the bird", {"premise": "the bird"}):
        with pytest.raises(ValueError, match="there is no '.*', which the prompt's template shows"):
            slots.insert_slots_in_text(given, TEMPLATE, names, vocabulary, 64)


@pytest.mark.parametrize(
    "text", ["{inputs}", "{p:2}", "{p:0} {inputs}", "{p:2 {inputs}", "{p:1} {}"]
)
def test_bad_templates(text):
    with pytest.raises(ValueError, match="is not understood.*at least one"):
        slots.parse(text)


def test_an_unknown_field(split, vocabulary):
    with pytest.raises(ValueError, match="shows 'question'.*hypothesis, premise, inputs"):
        slots.insert_slots(split, "{p:1} {question}", vocabulary)
