"""Texts are to the letter those of T5's preprocessors without the task's name.

`t5_texts.json` has awkward records and what T5 0.9.4 and google-research/prompt-tuning (for MRQA,
and for the name removed from the front: "taskless") make of them. It was written by
`tests/parity/test_t5_preprocessors.py`, which recomputes it where both are installed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from spjax.data.tasks import registry, templates, templates_text
from spjax.data.tasks.formats import FORMATS


def apply(dataset: str, fields: dict[str, Any], training: bool = False) -> list[dict[str, Any]]:
    form = registry.get(f"pocket_{dataset}").format
    return templates.TEMPLATES[form.template](
        fields, labels=form.labels, features=form.features, training=training
    )


def texts(dataset: str, fields: dict[str, Any], training: bool = False) -> list[tuple[str, str]]:
    examples = apply(dataset, fields, training)
    return [(example["inputs"], example["targets"]) for example in examples]


T5_TEXTS = json.loads((Path(__file__).parent / "t5_texts.json").read_text())
T5_LESS = {"schema_guided_dialogue"}  # what T5 has no text for


def made(dataset: str, record: dict[str, Any], training: bool = False) -> list[dict[str, Any]]:
    form = FORMATS[dataset.removeprefix("glue_")]  # glue_rte
    return templates.TEMPLATES[form.template](
        record, labels=form.labels, features=form.features, training=training
    )


@pytest.mark.parametrize(
    "row", T5_TEXTS, ids=[f"{i}_{row['dataset']}" for i, row in enumerate(T5_TEXTS)]
)
def test_same_as_t5(row: dict[str, Any]) -> None:
    dataset, training, expected = row["dataset"], row["training"], row["expected"]
    if dataset == "record" and not training:
        expected = expected[:1]  # T5's further examples of a query are dropped when it is scored
    found = made(dataset, row["record"], training)
    name = FORMATS[dataset.removeprefix("glue_")].task_name
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert (f"{name} {ours['inputs']}" if name else ours["inputs"]) == theirs["inputs"]
        assert ours["targets"] == theirs["targets"]
        assert ours["inputs"] == theirs.get("taskless", ours["inputs"])
        assert ours.get("answers") == theirs.get("answers")
        assert json.loads(json.dumps(ours)) == ours


def test_every_dataset_is_compared_with_t5() -> None:
    assert {row["dataset"] for row in T5_TEXTS} - {"glue_rte"} == set(FORMATS) - T5_LESS


def needed(form: Any) -> list[str]:
    """Fields without which there is no example."""
    fields = {
        "dpr": ("sentence", "pronoun", "candidates", "label"),
        "glue": ("label", "idx"),
        "multirc": ("label", "idx"),
        "record": ("passage", "query", "entities", "answers", "idx"),
        "stsb": ("label", "idx"),
        "wsc": ("text", "span1_text", "span2_text", "span2_index", "label", "idx"),
    }
    used = [name.partition("=")[2] or name for name in form.features]
    return [name.partition("/")[0] for name in used] + [*fields.get(form.template, ())]


@pytest.mark.parametrize(
    ("dataset", "field"),
    [(name, field) for name in FORMATS if name not in T5_LESS for field in needed(FORMATS[name])],
)
def test_a_missing_field_is_named(dataset: str, field: str) -> None:
    fields = next(row["record"] for row in T5_TEXTS if row["dataset"] == dataset)
    with pytest.raises(ValueError, match=f"a record has no field '{field}.*; it has "):
        made(dataset, {name: value for name, value in fields.items() if name != field})


def test_a_part_of_idx_that_is_missing_is_named() -> None:
    fields = next(row["record"] for row in T5_TEXTS if row["dataset"] == "multirc")
    with pytest.raises(ValueError, match="a record has no field 'idx/question'"):
        made("multirc", fields | {"idx": {"paragraph": 0}})
    with pytest.raises(ValueError, match="a record has no field 'idx/passage'"):
        made("record", BIRDS | {"idx": 3})


@pytest.mark.parametrize(
    ("dataset", "change", "message"),
    [
        ("boolq", {"passage": None}, "the field 'passage' of a record is None; it must be a text"),
        ("boolq", {"label": 2}, "'label' of a record is 2; it must be a number from 0 to 1, or -1"),
        ("boolq", {"label": -2}, "the field 'label' of a record is -2"),
        ("boolq", {"label": "True"}, "the field 'label' of a record is 'True'"),
        ("stsb", {"label": "1.0"}, "the field 'label' of a record is '1.0'; it must be a number"),
        ("dpr", {"label": 2}, "'label' of a record is 2; it must be a number from 0 to 1"),
        ("record", {"answers": "a"}, "the field 'answers' of a record is 'a'; it must be a list"),
        ("record", {"entities": [1]}, "'entities' of a record is .1.; it must be a list of texts"),
        ("squad", {"answers": {"text": []}}, "the field 'answers/text' of a record is empty"),
    ],
)
def test_a_wrong_field_is_named(dataset: str, change: dict[str, Any], message: str) -> None:
    fields = next(row["record"] for row in T5_TEXTS if row["dataset"] == dataset)
    with pytest.raises(ValueError, match=message):
        made(dataset, fields | change)


@pytest.mark.parametrize(
    ("label", "target"),
    # Halves of a fifth go to the even one: 0.5 is 2.5 fifths and 0.7 in float32 is 3.5 of them.
    [(0.1, "0.0"), (0.3, "0.4"), (0.5, "0.4"), (0.7, "0.8"), (2.5, "2.4"), (-1.0, "-1.0")],
)
def test_similarities_are_rounded_to_fifths(label: float, target: str) -> None:
    (example,) = made("stsb", {"sentence1": "a", "sentence2": "b", "label": label, "idx": 0})
    assert example["targets"] == target and example["label"] == label


def test_punctuation_and_white_space_are_those_of_ascii() -> None:
    assert templates_text.pad_punctuation("a-b \t\n\f\r c\u00a0d\u3002\v\u2014e`") == (
        "a - b c\u00a0d\u3002\v\u2014e ` "
    )


def test_dialogue_asks_for_every_turn_of_the_system() -> None:
    turns = ["A table,  please.", "For how many?", "Two", "Done."]
    expected = [
        ("user: A table,  please.", "For how many?"),
        ("user: A table,  please. system: For how many? user: Two", "Done."),
    ]
    found = made("schema_guided_dialogue", {"utterances": turns, "first_speaker": 0})
    assert [(example["inputs"], example["targets"]) for example in found] == expected
    found = made("schema_guided_dialogue", {"utterances": turns[1:], "first_speaker": 1})
    assert [(example["inputs"], example["targets"]) for example in found] == [
        ("system: For how many? user: Two", "Done.")
    ]
    assert made("schema_guided_dialogue", {"utterances": [], "first_speaker": 0}) == []
    with pytest.raises(ValueError, match="the field 'first_speaker' of a record is 2"):
        made("schema_guided_dialogue", {"utterances": turns, "first_speaker": 2})


def test_plain_records_are_examples_already() -> None:
    fields = {"inputs": "a", "targets": "b", "label": 1, "idx": 0}
    assert templates.plain(fields, labels=(), features=(), training=True) == [fields]
    with pytest.raises(ValueError, match="the field 'targets' of a record is 3"):
        templates.plain(fields | {"targets": 3}, labels=(), features=(), training=True)


@pytest.mark.parametrize(
    ("dataset", "fields", "expected"),
    [
        (
            "boolq",
            {"question": "is x a y", "passage": "X -- X is a y.", "idx": 3, "label": 1},
            ("passage: X -- X is a y. question: is x a y", "True"),
        ),
        (
            "boolq",
            {"question": 'does  "it" end\n', "passage": "", "idx": 0, "label": 0},
            ('passage:  question: does  "it" end\n', "False"),
        ),
        (
            "cb",
            {"premise": "A: P.", "hypothesis": "H", "idx": 0, "label": 2},
            ("hypothesis: H premise: A: P.", "neutral"),
        ),
        (
            "copa",
            {
                "premise": "The man fell.",
                "choice1": "He slipped.",
                "choice2": "He sat.",
                "question": "cause",
                "idx": 0,
                "label": 0,
            },
            (
                "choice1: He slipped. choice2: He sat. premise: The man fell. question: cause",
                "choice1",
            ),
        ),
        (
            "rte",
            {"premise": "P.", "hypothesis": "H.", "idx": 7, "label": 1},
            ("hypothesis: H. premise: P.", "not_entailment"),
        ),
        (
            "wic",
            {
                "word": "run",
                "sentence1": "I run.",
                "sentence2": "A run.",
                "start1": 2,
                "start2": 2,
                "end1": 5,
                "end2": 5,
                "idx": 0,
                "label": 0,
            },
            ("sentence1: I run. sentence2: A run. word: run", "False"),
        ),
        (
            "sentiment",
            {"sentence": "a fine film . ", "idx": 0, "label": 1},
            ("sentence: a fine film . ", "positive"),
        ),
        (
            "multirc",
            {
                "paragraph": "<b>Sent 1: </b>Bob ran.<br><b>Sent 2: </b>He won.<br>",
                "question": "Who?",
                "answer": "Bob",
                "idx": {"paragraph": 0, "question": 1, "answer": 2},
                "label": 1,
            },
            (
                "question: Who? answer: Bob paragraph: Sent 1: Bob ran. Sent 2: He won. ",
                "True",
            ),
        ),
    ],
)
def test_classification(dataset: str, fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert texts(dataset, fields) == [expected]
    assert texts(dataset, fields, training=True) == [expected]
    example = apply(dataset, fields)[0]
    assert example["idx"] == fields["idx"] and example["label"] == fields["label"]


def test_unknown_label_becomes_unk() -> None:
    fields = {"premise": "P.", "hypothesis": "H.", "idx": 0, "label": -1}
    assert texts("rte", fields) == [("hypothesis: H. premise: P.", "<unk>")]


BIRDS = {
    "passage": "First part.\n@highlight\nHighlight one\n@highlight\n"
    'Highlight "two"\n@highlight\nEnd',
    "query": "A @placeholder is a bird.",
    "entities": ["penguin", "potato", "pigeon"],
    "answers": ["penguin", "pigeon"],
    "idx": {"passage": 4, "query": 9},
}
BIRDS_TEXT = (
    "query: A @placeholder is a bird. entities: penguin, potato, pigeon "
    'passage: First part. Highlight one. Highlight "two" End'
)


def test_record_trains_on_every_answer_and_is_asked_once() -> None:
    assert texts("record", BIRDS, training=True) == [
        (BIRDS_TEXT, "penguin"),
        (BIRDS_TEXT, "pigeon"),
    ]
    assert texts("record", BIRDS) == [(BIRDS_TEXT, "penguin")]
    for training in (True, False):
        for example in apply("record", BIRDS, training):
            assert example["answers"] == ["penguin", "pigeon"]
            assert example["idx"] == {"passage": 4, "query": 9}


@pytest.mark.parametrize("training", [True, False])
def test_record_without_answer_or_entity(training: bool) -> None:
    fields = BIRDS | {"answers": [], "entities": [], "passage": ""}
    assert texts("record", fields, training) == [
        ("query: A @placeholder is a bird. entities:  passage: ", "<unk>")
    ]


LOAN = {
    "text": "Mitchell asked Tom if he could lend some money.",
    "span1_text": "Tom",
    "span1_index": 2,
    "span2_text": "he",
    "span2_index": 4,
    "idx": 0,
    "label": 1,
}


def test_wsc_stars_the_pronoun() -> None:
    expected = ("Mitchell asked Tom if *he* could lend some money.", "Tom")
    assert texts("wsc", LOAN) == texts("wsc", LOAN, training=True) == [expected]


def test_wsc_trains_on_right_referents_only() -> None:
    wrong = LOAN | {"label": 0, "span1_text": "Mitchell"}
    assert apply("wsc", wrong, training=True) == []
    assert texts("wsc", wrong)[0][1] == "Mitchell"
    assert apply("wsc", wrong)[0]["label"] == 0
    assert apply("wsc", LOAN | {"label": -1}, training=True) == []


def test_wsc_pronoun_in_last_place_keeps_the_space() -> None:
    fields = LOAN | {"text": "Tom said the book is his", "span2_text": "his", "span2_index": 5}
    assert texts("wsc", fields)[0][0] == "Tom said the book is *his* "


def test_wsc_misplaced_pronouns() -> None:
    whip = LOAN | {
        "text": "The boy continued to whip the pony , and eventually the pony threw him over. "
        'John laughed out quite loud. "Good for him," he said. ',
        "span2_text": "him",
        "span2_index": 20,
    }
    assert texts("wsc", whip)[0][0] == (
        "The boy continued to whip the pony , and eventually the pony threw him over. "
        'John laughed out quite loud. "Good for *him* ," he said.'
    )
    magic = LOAN | {
        "text": "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put "
        "the magic pebble in an iron safe . Some day they might want to use it , but really for "
        "now, what more could they wish for?",
        "span2_text": "it",
        "span2_index": 28,
    }
    assert texts("wsc", magic)[0][0].endswith(
        "Some day they might want to use *it* , but really for now, what more could they wish for?"
    )


@pytest.mark.parametrize("index", [0, 3, 9, 40])
def test_wsc_with_a_wrong_index_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="does not point at the pronoun 'he'"):
        apply("wsc", LOAN | {"span2_index": index})
