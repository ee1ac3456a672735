"""The graded world: its lexicon, texts, vocabulary and tasks."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from spjax.data.tasks import registry
from spjax.data.token_cache import plain_tokens
from spjax.pocket import corpus
from spjax.pocket.draws import BUCKETS, Draws, bucket, may_pretrain
from spjax.pocket.graded import lexicon, make_vocabulary, records, texts
from spjax.pocket.tasks import GRADED, SPLITS, TASKS
from spjax.vocabularies.vocabulary import load_vocabulary

NAMES = [name for name in TASKS if name.startswith(GRADED)]
WORDS = frozenset(lexicon.WORDS)
PREDICATES = {"is a": lexicon.KIND, "is very": lexicon.WORTH, "makes it": lexicon.EFFECT}


@pytest.fixture(scope="module")
def documents():
    return corpus.documents(5, 8000, texts.GENRES)


def invented(text):
    """Words of the lexicon in a text, as a set."""
    return frozenset(re.findall("[a-z]+", text)) & WORDS


def body(name, record):
    """All invented words of a record but the candidate of MultiRC, which need not occur there."""
    skipped = ("idx", "answer", "answers", "entities", "label")
    return invented(" ".join(str(v) for k, v in record.items() if k not in skipped))


def test_words_are_distinct_and_their_values_balanced_and_independent():
    assert len(WORDS) == lexicon.COUNT
    for first, second in itertools.combinations(lexicon.ATTRIBUTES, 2):
        pairs = Counter(
            (lexicon.value(first, word), lexicon.value(second, word)) for word in lexicon.WORDS
        )
        expected = lexicon.COUNT / len(first.values) / len(second.values)
        assert len(pairs) == len(first.values) * len(second.values)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in pairs.values())
    counts = Counter(lexicon.value(lexicon.KIND, word) for word in lexicon.WORDS)
    assert set(counts.values()) == {lexicon.COUNT // 8}


def test_spelling_says_nothing_of_the_kind():
    """The commonest kind of the words of one first syllable is right no more often than chance."""
    kinds = {}
    for word in lexicon.WORDS:
        onset = next(o for o in sorted(lexicon.ONSETS, key=len)[::-1] if word.startswith(o))
        kinds.setdefault(onset, Counter())[lexicon.value(lexicon.KIND, word)] += 1
    best = sum(counts.most_common(1)[0][1] for counts in kinds.values())
    shuffled = np.random.default_rng(0).multinomial(125, [1 / 8] * 8, 500).max(1).mean() * 160
    assert abs(best / shuffled - 1) < 0.05


def test_words_are_drawn_by_the_law_of_their_register():
    draws, count = Draws(3), 40_000
    seen = Counter(lexicon.TASK.word(draws) for _ in range(count))
    flattening = lexicon.TASK.flattening
    total = np.log(lexicon.COUNT / flattening + 1)
    for first, end in ((0, 10), (100, 200), (3000, 6000)):
        share = np.log((end + flattening) / (first + flattening)) / total
        drawn = sum(seen[word] for word in lexicon.WORDS[first:end])
        assert abs(drawn - share * count) < 5 * (share * count) ** 0.5


@pytest.mark.slow
def test_no_words_of_an_item_occur_together_in_another_split_or_in_pretraining(documents):
    items = {
        (name, split): {body(name, record) for record in TASKS[name].records(split)}
        for name in NAMES
        for split in SPLITS
    }
    assert all(2 <= len(words) <= 3 for taken in items.values() for words in taken)
    for (_, split), taken in items.items():
        for (_, other), others in items.items():
            assert split == other or taken.isdisjoint(others)
    taken = set().union(*items.values())
    for document in documents:
        words = sorted(invented(document.text))
        for size in (2, 3):
            assert taken.isdisjoint(map(frozenset, itertools.combinations(words, size)))


@pytest.mark.slow
@pytest.mark.parametrize("name, field", [("boolq", "question"), ("rte", "hypothesis")])
def test_words_whose_label_a_rule_says_are_not_asked_about_in_training(name, field):
    train, validation, test = (
        set().union(*(invented(r[field]) for r in TASKS[GRADED + name].records(split)))
        for split in SPLITS
    )
    assert train.isdisjoint(validation | test)


def test_the_key_of_three_words_holds_every_two_of_them():
    words = lexicon.WORDS[:12]
    for three in itertools.combinations(words, 3):
        if may_pretrain(lexicon.together(*three)):
            for pair in itertools.combinations(three, 2):
                assert bucket(lexicon.together(*pair)) == BUCKETS[0]
    assert lexicon.together(*words[:3]) == lexicon.together(*words[2::-1])


def test_task_formats_do_not_occur(documents):
    """The formats that a prompt is to elicit, and the rules that it is to carry."""
    headings = "passage question hypothesis premise paragraph answer query entities sentence word"
    pattern = re.compile(rf"\b({headings.replace(' ', '|')}|sentence1):|\bmay\b|\bfed\b|[*@]")
    assert not any(pattern.search(document.text) for document in documents)
    written = Counter(document.pieces[-1] for document in documents)
    for task in NAMES:
        assert all(written[label] > 10 for label in TASKS[task].labels), task


def test_every_answer_of_one_word_is_listed(documents):
    written = {document.pieces[-1] for document in documents}
    assert {answer for answer in written if " " not in answer} == {*texts.ANSWERS}
    assert len({*texts.ANSWERS}) == len(texts.ANSWERS)


def test_answers_are_those_of_the_lexicon(documents):
    """Read by another way than they are written by: patterns of the whole document."""
    judged = Counter()
    for document in documents:
        text, answer = " ".join(document.pieces[:-1]), document.pieces[-1]
        for attribute in lexicon.ATTRIBUTES:
            for prompt in attribute.prompts:
                if match := re.fullmatch(re.escape(prompt).replace(r"\{w\}", "([a-z]+)"), text):
                    assert lexicon.value(attribute, match[1]) == answer
                    judged["attribute"] += 1
        if "same kind? yes or no?" in text:
            first, second = (lexicon.value(lexicon.KIND, word) for word in invented(text))
            assert answer == ("yes" if first == second else "no")
            judged["likeness"] += 1
        if match := re.search(r"(?:who|which) (is a|is very|makes it) (\w+)", text):
            attribute = PREDICATES[match[1]]
            marked = re.findall(
                r"(?=\b([A-Z]\w+|first|second|one|two|left|right)(?: the|:) ([a-z]+)\b)", text
            )
            values = {n: lexicon.value(attribute, w) if w in WORDS else w for n, w in marked}
            assert [n for n, value in values.items() if value == match[2]] == [answer]
            judged["selection"] += 1
    assert len(judged) == 3 and min(judged.values()) > 200, judged


@pytest.mark.parametrize("name", NAMES)
def test_every_record_has_a_probe_of_one_text_or_two(name):
    task = TASKS[name]
    probes = task.probes("validation")
    assert len(probes) == len(task.records("validation"))
    for probe in probes:
        assert probe.right and {len(answers) for answers in probe.right} == {len(probe.texts)}


def test_a_reader_knows_the_label_from_the_right_answers():
    """The rules of BoolQ and RTE are functions of what their probes ask for."""
    for name in ("graded_boolq", "graded_rte"):
        rules = {}
        for record, probe in zip(TASKS[name].records("test"), TASKS[name].probes("test")):
            rules.setdefault(record["label"], set()).add(probe.right)
        (no,), (yes,) = rules[0], rules[1]
        assert len(no) == len(yes) and no.isdisjoint(yes)


def test_a_reader_finds_the_sentiment_of_every_phrase():
    for record in TASKS["graded_sentiment"].records("train"):
        clause = record["sentence"].rstrip(".").split(" but ")[-1].split(" though ")[0]
        word = clause.removeprefix("not ")
        good = lexicon.value(lexicon.WORTH, word) == "good"
        assert record["label"] == int(good != clause.startswith("not ")), record


@pytest.mark.parametrize("name, field", records.NOTED.items())
def test_shifted_tasks(name, field):
    """A note is the task's text and two names, each behind a heading; rare words are rare."""
    pattern = r"[a-z]+: (.+) [a-z]+: (.+)"
    for record in TASKS[f"{GRADED}{name}_notes"].records("validation"):
        pair = re.fullmatch(pattern, record[field]).groups()
        assert sum(bool(re.fullmatch(r"[A-Z]\w+, [A-Z]\w+\.", part)) for part in pair) == 1
        assert sum(bool(invented(part)) for part in pair) == 1
    usual, rare = (
        np.median(
            [
                lexicon.rank(word)
                for record in TASKS[f"{GRADED}{name}{ending}"].records("validation")
                for word in body(GRADED + name, record)
            ]
        )
        for ending in ("", "_rare")
    )
    assert rare > 5 * usual


def test_a_reader_judges_every_multirc_answer_and_fills_every_blank():
    for record in TASKS["graded_multirc"].records("train"):
        kind, answer = record["question"].split()[-1].rstrip("?"), record["answer"].rstrip(".")
        is_there = answer in invented(record["paragraph"])
        is_kind = lexicon.value(lexicon.KIND, answer) == kind
        assert record["label"] == int(is_there and is_kind)
    for name, text, query in (("record", "passage", "query"), ("wsc", "text", "text")):
        for record in TASKS[GRADED + name].records("train"):
            people = re.findall(r"([A-Z]\w+) the ([a-z]+)", record[text])
            fits = [
                person
                for person, word in people
                for attribute in lexicon.ATTRIBUTES
                if record[query].endswith(f" {lexicon.value(attribute, word)}.")
            ]
            if name == "record":
                assert {person for person, _ in people} == set(record["entities"])
                assert fits == record["answers"]
            else:
                assert (fits == [record["span1_text"]]) == record["label"]


def test_spans_point_at_their_words():
    for record in TASKS["graded_wic"].records("train"):
        for n in "12":
            span = record[f"sentence{n}"][record[f"start{n}"] : record[f"end{n}"]]
            assert span == record["word"]
    for record in TASKS["graded_wsc"].records("train"):
        split = record["text"].split()
        assert all(split[record[f"span{n}_index"]] == record[f"span{n}_text"] for n in "12")


def test_the_shipped_vocabulary_is_what_its_command_makes(tmp_path):
    make_vocabulary.write(tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == make_vocabulary.PATH.read_bytes()


def test_too_many_pieces_are_refused(monkeypatch):
    monkeypatch.setattr(make_vocabulary, "SIZE", 400)
    with pytest.raises(ValueError, match="the graded world has .* pieces, more than 400 ids hold"):
        make_vocabulary.pieces()


def test_invented_words_are_two_pieces_and_all_others_one(documents):
    words = load_vocabulary("graded")
    assert words.size == make_vocabulary.SIZE
    words.check_sentinels(20)
    assert {len(words.encode(word)) for word in lexicon.WORDS} == {2}
    for document in documents[:2000]:
        assert words.decode(words.encode(document.text)) == document.text
    others = {w for d in documents for w in re.findall(r"[\w*@]+", d.text)} - WORDS
    assert {len(words.encode(word)) for word in others | set(records.HEADINGS)} == {1}


@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_short_and_have_no_unknown_word(name):
    info = registry.get(name)
    for inputs, targets, _ in plain_tokens.examples(info, "validation", info.lengths):
        assert len(inputs) <= 48 and len(targets) <= 3
        assert 2 not in inputs and 2 not in targets
