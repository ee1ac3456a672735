"""Writes small folders of every dataset of the table that TFDS has, as TFDS itself would.

TFDS's own builders write them, so names, versions, features and files are the real ones; only the
records are made here instead of downloaded. Many are awkward. `write` imports TensorFlow, so tests
call it in another process.
"""

import itertools
from unittest import mock

SPLITS = ("train", "validation", "test")
TEXTS = (
    "Il était une fois “quotes” — naïve ☃ …",
    "",
    "He said: \"It's <br>'s\" &amp; left.",
    "two  spaces \n and a line break",
    "A plain sentence , as they come .",
    "日本語 und Größe; 100 % <extra_id_0> True",
)
Records = list[dict]


def _pairs(fields: str, labels: int, **others: int | str) -> dict[str, Records]:
    """Records of text fields and a label, which the test split lacks (-1)."""
    known = {"train": labels, "validation": labels, "test": 0}
    return {split: _labelled(fields, known[split], **others) for split in SPLITS}


def _labelled(fields: str, labels: int, count: int = 6, **others: int | str) -> Records:
    return [
        {name: TEXTS[(i + j) % len(TEXTS)] for j, name in enumerate(fields.split())}
        | {"idx": i, "label": i % labels if labels else -1}
        | others
        for i in range(count)
    ]


def _multirc() -> dict[str, Records]:
    made = _pairs("paragraph question answer", 2)
    for records in made.values():
        for record, (paragraph, question) in zip(records, itertools.product((7, 8), (0, 0, 1))):
            answer = record["idx"] % 3
            record["idx"] = {"paragraph": paragraph, "question": question, "answer": answer}
            record["paragraph"] = "<b>Sent 1: </b>It rained.<br><b>Sent 2: </b>Ünder trees. "
    return made


def _record() -> dict[str, Records]:
    answers = [["Rome"], ["Köln", "Cologne", "Köln"], []]
    return {
        split: [
            {
                "passage": "It rained in Rome.\n@highlight\nKöln stayed dry\n@highlight\nMore",
                "query": 'In @placeholder it is "dry"',
                "entities": ["Rome", "Köln", "Cologne"][: 3 - i % 2],
                "answers": answers[i % 3] if split != "test" else [],
                "idx": {"passage": i // 2, "query": i},
            }
            for i in range(6)
        ]
        for split in SPLITS
    }


def _wsc() -> dict[str, Records]:
    made = _pairs("text", 2)
    text = "The trophy doesn't fit into the case because it is too Größe ."
    spans = {"span1_text": "The trophy", "span1_index": 0, "span2_text": "it", "span2_index": 8}
    return {s: [record | {"text": text} | spans for record in made[s]] for s in made}


def _stsb() -> dict[str, Records]:
    made = _pairs("sentence1 sentence2", 6)
    for split, records in made.items():
        for i, record in enumerate(records):
            record["label"] = -1.0 if split == "test" else (0.0, 1.25, 2.5, 3.75, 4.375, 5.0)[i]
    return made


def _mnli() -> dict[str, Records]:
    made = _pairs("premise hypothesis", 3)
    parts = [(f"{s}_{part}", made[s]) for s in SPLITS[1:] for part in ("matched", "mismatched")]
    return {"train": made["train"], **dict(parts)}


def _dpr() -> dict[str, Records]:
    record = {
        "sentence": 'Bees land on flowers because they have "pollen", naïve or not.',
        "pronoun": "they",
        "candidates": ["Bees", "flowers"],
    }
    return {split: [record | {"label": i % 2} for i in range(4)] for split in ("train", "test")}


def _squad() -> dict[str, Records]:
    answers = [["Saint Bernadette", "Bernadette", "Saint Bernadette"], ["1858"], ["“Ünder”"]]
    return {
        split: [
            {
                "id": f"{split}{i}",
                "title": "Lourdes",
                "context": "To Saint Bernadette, in 1858; not(e) “Ünder” 3.5% .\nNext line's end",
                "question": TEXTS[i],
                "answers": {"text": answers[i % 3], "answer_start": [3] * len(answers[i % 3])},
            }
            for i in range(6)
        ]
        for split in SPLITS[:2]
    }


def _mrqa(splits: tuple[str, ...]) -> dict[str, Records]:
    spans = {"start": [3, 9], "end": [5, 11]}
    detected = {"text": ["It", "rain"], "char_spans": [spans, spans], "token_spans": [spans] * 2}
    return {
        split: [
            {
                "subset": "Made",
                "context": "[DOC] [TLE] It rained <P> in Köln </P>, 'naïve' ." * (i != 1),
                "context_tokens": {"tokens": ["It", "rained"], "offsets": [0, 3]},
                "qid": f"{split}{i}",
                "question": TEXTS[i],
                "question_tokens": {"tokens": ["Who"], "offsets": [0]},
                "detected_answers": detected,
                "answers": [["It", "the rain"], ["Köln"]][i % 2],
            }
            for i in range(4)
        ]
        for split in splits
    }


def _texts(*fields: str) -> dict[str, Records]:
    """Records of longer texts, the last field the shortest."""
    rows = [TEXTS[i:] + TEXTS[:i] for i in range(4)]
    return {
        split: [
            {name: " ".join(texts[: 4 if name != fields[-1] else 1]) for name in fields}
            | {fields[-1]: f"{split} {texts[0]} é {i}"}
            for i, texts in enumerate(rows)
        ]
        for split in SPLITS
    }


def _samsum() -> dict[str, Records]:
    made = _texts("dialogue", "summary")
    return {
        split: [
            record | {"id": f"{split}{i}", "dialogue": "Amy: Hi <3\r\nBob: Grüße!"}
            for i, record in enumerate(records)
        ]
        for split, records in made.items()
    }


def _news() -> dict[str, Records]:
    made = _texts("article", "highlights")
    facts = {"publisher": "cnn", "id": "a1"}
    return {split: [record | facts for record in records] for split, records in made.items()}


def _dialogues() -> dict[str, Records]:
    speech = ["Find “Grüße” <3", "Which\none?", "", "The 2nd, please", "Done: 20 €"]
    return {
        split: [
            {
                "utterances": speech[: 5 - i],
                "first_speaker": i % 2,  # user or system
                "metadata": {"services": [{"name": "Music_1"}] * i},
            }
            for i in range(4)
        ]
        for split in ("train", "dev", "test")
    }


def datasets() -> dict[str, dict[str, Records]]:
    """The records of each split of each dataset, by the dataset's name and version in TFDS."""
    super_glue = {
        "boolq": _pairs("question passage", 2),
        "cb": _pairs("premise hypothesis", 3),
        "copa": _pairs("premise choice1 choice2 question", 2),
        "multirc": _multirc(),
        "record": _record(),
        "rte": _pairs("premise hypothesis", 2),
        "wic": _pairs("word sentence1 sentence2", 2, start1=0, start2=1, end1=2, end2=3),
        "wsc.fixed": _wsc(),
        "axb": {"test": _labelled("sentence1 sentence2", 2)},
        "axg": {"test": _labelled("premise hypothesis", 2)},
    }
    glue = {
        "cola": _pairs("sentence", 2),
        "sst2": _pairs("sentence", 2),
        "mrpc": _pairs("sentence1 sentence2", 2),
        "qqp": _pairs("question1 question2", 2),
        "stsb": _stsb(),
        "mnli": _mnli(),
        "qnli": _pairs("question sentence", 2),
        "rte": _pairs("sentence1 sentence2", 2),
        "wnli": _pairs("sentence1 sentence2", 2),
        "ax": {"test": _labelled("premise hypothesis", 0)},
    }
    in_domain = ("news_qa", "trivia_qa", "search_qa", "hotpot_qa", "natural_questions")
    out = ("bio_asq", "drop", "duo_rc", "race", "relation_extraction", "textbook_qa")
    return {
        **{f"super_glue/{name}:1.0.2": made for name, made in super_glue.items()},
        **{f"glue/{name}:1.0.0": made for name, made in glue.items()},
        **{f"glue/{name}:2.0.0": made for name, made in glue.items()},
        **{f"mrqa/{name}:1.0.0": _mrqa(SPLITS[:2]) for name in in_domain},
        **{f"mrqa/{name}:1.0.0": _mrqa(SPLITS[2:]) for name in out},
        "definite_pronoun_resolution:1.1.0": _dpr(),
        "squad/v1.1:3.0.0": _squad(),
        "xsum:1.1.0": _texts("document", "summary"),
        "samsum:1.0.0": _samsum(),
        "wmt16_translate/ro-en:1.0.0": _texts("en", "ro"),
        "cnn_dailymail:3.4.0": _news(),
        "schema_guided_dialogue:1.0.0": _dialogues(),
    }


def write(folder: str) -> None:
    """Writes them all below a folder."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    for name, splits in datasets().items():
        builder = tfds.builder(name, data_dir=folder)
        numbered = {split: iter(list(enumerate(rows))) for split, rows in splits.items()}
        # An old version has the same code; TFDS only refuses to make new folders of it.
        old = mock.patch.object(builder, "canonical_version", builder.version)
        made = mock.patch.object(builder, "_split_generators", lambda *_, made=numbered: made)
        with old, made:
            builder.download_and_prepare()
