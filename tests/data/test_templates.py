"""Texts are to the letter those of T5's preprocessors without the task's name."""

from typing import Any

import pytest

from spjax.data.tasks import registry, templates


def apply(dataset: str, fields: dict[str, Any], training: bool = False) -> list[dict[str, Any]]:
    form = registry.get(f"pocket_{dataset}").format
    return templates.TEMPLATES[form.template](
        fields, labels=form.labels, features=form.features, training=training
    )


def texts(dataset: str, fields: dict[str, Any], training: bool = False) -> list[tuple[str, str]]:
    examples = apply(dataset, fields, training)
    return [(example["inputs"], example["targets"]) for example in examples]


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
