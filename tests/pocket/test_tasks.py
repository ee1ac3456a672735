"""The tasks: TFDS schemas, sizes, no leaks, and answers that an independent reader finds."""

import re
from collections import Counter

import pytest
import sentencepiece

from spjax.data import leaks
from spjax.pocket import corpus, lexicon, make_vocabulary, world
from spjax.pocket.draws import BUCKETS, bucket, normalised
from spjax.pocket.tasks import GRADED, SPLITS, TASKS

NAMES = [name for name in TASKS if not name.startswith(GRADED)]

FIELDS = {
    "boolq": "idx label passage question",
    "cb": "hypothesis idx label premise",
    "copa": "choice1 choice2 idx label premise question",
    "multirc": "answer idx label paragraph question",
    "record": "answers entities idx passage query",
    "rte": "hypothesis idx label premise",
    "wic": "end1 end2 idx label sentence1 sentence2 start1 start2 word",
    "wsc": "idx label span1_index span1_text span2_index span2_text text",
    "sentiment": "idx label sentence",
}
# What may not recur in another split or in pre-training text.
BODIES = {
    "boolq": lambda r: r["passage"],
    "cb": lambda r: r["premise"],
    "copa": lambda r: " ".join([r["premise"], r["choice1"], r["choice2"]]),
    "multirc": lambda r: r["paragraph"],
    "record": lambda r: r["passage"].replace("\n@highlight\n", " "),
    "rte": lambda r: r["premise"],
    "wic": lambda r: " ".join([r["sentence1"], r["sentence2"]]),
    "wsc": lambda r: r["text"],
    "sentiment": lambda r: r["sentence"],
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_records_have_the_schema_size_and_balance(name, split):
    task = TASKS[name]
    records = task.records(split)
    assert task.sizes[split] <= len(records) <= task.sizes[split] + 4
    assert all(" ".join(sorted(r)) == FIELDS[task.schema] for r in records)
    assert len({str(r["idx"]) for r in records}) == len(records)
    if task.schema != "record":
        counts = Counter(r["label"] for r in records)
        assert sorted(counts) == list(range(len(task.labels) or 2))
        assert max(counts.values()) < 1.25 * min(counts.values())


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_body(name):
    for split in SPLITS:
        for r in TASKS[name].records(split):
            assert bucket(BODIES[name](r)) == split != BUCKETS[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_leak_check_of_all_data_finds_no_body_in_two_splits(name):
    bodies = {
        split: [(normalised(BODIES[name](r)), "") for r in TASKS[name].records(split)]
        for split in SPLITS
    }
    for overlap in leaks.check(bodies, near=1.0).overlaps:
        if overlap.split != overlap.other:
            # Neither to the letter nor with all groups of words the same.
            assert (overlap.same, overlap.near) == (0, 0), overlap


def _sentences(text):
    sentences = [normalised(s) for s in re.split(r"[.?:](?:\s|$)", text)]
    return [sentence for sentence in sentences if sentence]


def test_no_body_occurs_in_pretraining_text():
    """Neither as it is nor with its sentences in another order."""
    bodies = {
        frozenset(_sentences(BODIES[name](r)))
        for name, task in TASKS.items()
        if name in NAMES
        for split in SPLITS
        for r in task.records(split)
    }
    for seed in (0, 1):
        for document in corpus.documents(seed, 4000):
            sentences = _sentences(document.text)
            for start in range(len(sentences)):
                for end in range(start + 1, min(start + 5, len(sentences)) + 1):
                    run = frozenset(sentences[start:end])
                    assert run not in bodies, (run, document.text)


@pytest.mark.parametrize("name", ["copa", "wic"])
def test_whole_inputs_do_not_occur_in_pretraining_text_in_any_order(name):
    """Their parts are the world's knowledge and do occur, but never all of one input together."""
    fields = {"copa": ("premise", "choice1", "choice2"), "wic": ("sentence1", "sentence2")}[name]
    taken = {
        frozenset(normalised(r[f]) for f in fields)
        for split in SPLITS
        for r in TASKS[name].records(split)
    }
    known = set().union(*taken)
    cut = re.compile(r"[.?:] | - | or |\.$|\?$")
    for document in corpus.documents(0, 20_000):
        found = frozenset(normalised(s) for s in cut.split(document.text)) & known
        assert found not in taken, document.text


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="no split 'dev'; it has train, validation, test"):
        TASKS["boolq"].records("dev")


def test_spans_point_at_their_words():
    for r in TASKS["wic"].records("train"):
        for n in "12":
            assert r[f"sentence{n}"][r[f"start{n}"] : r[f"end{n}"]] == r["word"]
    for r in TASKS["wsc"].records("train"):
        words = [word.strip(".") for word in r["text"].split(" ")]
        for n in "12":
            span = r[f"span{n}_text"].split()
            assert words[r[f"span{n}_index"] :][: len(span)] == span


def test_inputs_are_short():
    vocabulary = sentencepiece.SentencePieceProcessor(str(make_vocabulary.PATH))
    for name in NAMES:
        for r in TASKS[name].records("train"):
            values = [
                v if isinstance(v, str) else " ".join(v)
                for k, v in r.items()
                if isinstance(v, (str, list)) and k not in ("answers", "span1_text")
            ]
            assert len(vocabulary.encode(" ".join(values))) <= 56, name


def _facts(passage):
    """(relation, subject, value, holds) of every clause, by matching the templates backwards."""
    found = set()
    for clause in re.split(r"\. | and ", passage.rstrip(".")):
        for relation in world.RELATIONS:
            for template in (*relation.statements, relation.denial):
                pattern = re.escape(template).replace(r"\{s\}", "(?P<s>.+)")
                match = re.fullmatch(pattern.replace(r"\{v\}", "(?P<v>.+)"), clause)
                if match and match["s"] in relation.subjects and match["v"] in relation.values:
                    found.add((relation, match["s"], match["v"], template != relation.denial))
    return found


def test_a_reader_answers_every_boolq_question():
    for r in TASKS["boolq"].records("train"):
        facts = _facts(r["passage"])
        asked = [f for f in facts if f[0].yes_no.format(s=f[1], v=f[2]) == r["question"]]
        assert r["label"] == int(bool(asked) and asked[0][3]), r


def test_a_reader_judges_every_multirc_answer():
    for r in TASKS["multirc"].records("train"):
        right = set()
        for relation, s, v, holds in _facts(r["paragraph"]):
            if holds and relation.question.format(s=s) == r["question"].rstrip("?"):
                right.add(v)
            if holds and relation.reverse.format(v=v) == r["question"].rstrip("?"):
                right.add(s)
        assert r["label"] == int(r["answer"] in right), r


@pytest.mark.parametrize("name", ["cb", "rte"])
def test_a_reader_judges_every_hypothesis_about_a_plain_scene(name):
    judged = 0
    for r in TASKS[name].records("train"):
        facts, asked = _facts(r["premise"]), _facts(r["hypothesis"])
        if len(asked) != 1 or len(facts) < len(re.split(r"\. | and ", r["premise"])):
            continue  # somebody's belief, or an event
        relation, s, v, holds = asked.pop()
        same = (relation, s, v, holds) in facts
        contrary = (relation, s, v, not holds) in facts
        other = any(f[:2] == (relation, s) and f[2] != v and f[3] for f in facts)
        entailed, excluded = (same, contrary or other) if holds else (same or other, contrary)
        assert not (entailed and excluded)
        expected = 0 if entailed else 1 if excluded or name == "rte" else 2
        assert r["label"] == expected, r
        judged += 1
    assert judged > 100


def test_a_reader_fills_every_record_blank():
    for r in TASKS["record"].records("train"):
        facts = _facts(r["passage"].replace("\n@highlight\n", " "))
        assert r["answers"][0] in r["entities"] and len(r["answers"]) == 1
        fits = [e for e in r["entities"] if _facts(r["query"].replace("@placeholder", e)) <= facts]
        assert fits == r["answers"], r


def test_a_reader_finds_the_sentiment_of_every_review():
    praise = {*lexicon.PRAISE, *(word for pair in lexicon.LIKING for word in pair)}
    for r in TASKS["sentiment"].records("train"):
        clause = r["sentence"]
        if clause.startswith("although"):
            clause = clause.split(", ")[1]
        clause = clause.split("although")[0].split("but")[-1]
        clause = re.split(r"\. | and ", clause)[0]
        good = bool(praise & set(re.findall(r"\w+", clause)))
        assert r["label"] == int(good != (" not " in clause)), r


def test_majority_rates_are_low():
    for task in TASKS.values():
        rates = task.majority_rate()
        assert all(0 <= rate < 70 for rate in rates.values())
    assert TASKS["boolq"].majority_rate() == {"accuracy": 50.0}
