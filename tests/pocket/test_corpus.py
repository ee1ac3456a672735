"""The corpus: deterministic, rightly split, one piece a word, balanced."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import sentencepiece

from spjax.pocket import corpus, make_vocabulary

SENTENCEPIECE_FILE = str(make_vocabulary.PATH)


@pytest.fixture(scope="module")
def vocabulary():
    return sentencepiece.SentencePieceProcessor(SENTENCEPIECE_FILE)


@pytest.fixture(scope="module")
def documents():
    return corpus.documents(5, 6000)


def test_other_processes_write_the_same_documents():
    code = "from spjax.pocket import corpus; print(*corpus.documents(3, 50), sep='\\n')"
    written = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert written[0] == written[1] == "\n".join(map(str, corpus.documents(3, 50))) + "\n"


def test_longer_calls_begin_with_shorter_ones_and_seeds_differ():
    assert corpus.documents(3, 5000)[:4200] == corpus.documents(3, 4200)
    assert corpus.documents(4, 50) != corpus.documents(3, 50)


def test_tokens_are_those_of_the_whole_texts(vocabulary, documents):
    made = corpus.tokenized(5, 6000, vocabulary)
    assert (made.tokens.dtype, made.offsets.dtype, made.splits.dtype) == (
        np.int32,
        np.int64,
        np.int64,
    )
    assert len(made.offsets) == 6001 and made.offsets[-1] == len(made.tokens)
    splits = np.split(made.splits, np.searchsorted(made.splits, made.offsets[1:-1]))
    for number, document in enumerate(documents):
        start, end = made.offsets[number : number + 2]
        assert made.tokens[start:end].tolist() == vocabulary.encode(document.text)
        assert len(splits[number]) == len(document.splits)
        for at, offset in zip(splits[number], document.splits):
            assert start < at < end
            assert vocabulary.decode(made.tokens[at:end].tolist()) == document.text[offset:]


@pytest.mark.parametrize("genres", corpus.LESSONS)
def test_the_last_split_of_a_lesson_leaves_the_answer(vocabulary, genres):
    made, last = corpus.tokenized(5, 200, vocabulary, genres), 0
    for number, document in enumerate(corpus.documents(5, 200, genres)):
        start, end = made.offsets[number : number + 2]
        last = made.splits[(made.splits > start) & (made.splits < end)][-1]
        assert vocabulary.decode(made.tokens[last:end].tolist()) == document.pieces[-1]
        assert len(document.pieces[-1].split()) <= 2


def test_an_encode_batch_is_preferred(vocabulary):
    class Batched:
        encode_batch = vocabulary.encode

        def encode(self, text):
            raise AssertionError("encoded one by one")

    made = corpus.tokenized(5, 20, Batched())
    np.testing.assert_array_equal(made.tokens, corpus.tokenized(5, 20, vocabulary).tokens)


def test_no_documents_are_an_empty_corpus(vocabulary):
    made = corpus.tokenized(0, 0, vocabulary)
    assert len(made.tokens) == len(made.splits) == 0 and made.offsets.tolist() == [0]


@pytest.mark.parametrize("seed, count, name", [(-1, 5, "seed"), (1, -5, "count")])
def test_negative_numbers_are_refused(vocabulary, seed, count, name):
    with pytest.raises(ValueError, match=f"The {name} of a pocket corpus is -"):
        corpus.documents(seed, count)
    with pytest.raises(ValueError, match=f"The {name} of a pocket corpus is -"):
        corpus.tokenized(seed, count, vocabulary)


def test_nearly_every_word_is_one_piece(vocabulary, documents):
    text = "\n".join(document.text for document in documents)
    words = set(re.findall(r"(?<!@)\b[A-Za-z]+", text))
    assert 500 < len(words) < 900
    assert [word for word in words if len(vocabulary.encode(word)) > 1] == []
    assert vocabulary.unk_id() not in corpus.tokenized(5, 6000, vocabulary).tokens


def test_the_vocabulary_has_the_ids_of_t5(vocabulary):
    assert vocabulary.vocab_size() == 1052 and vocabulary.bos_id() == -1
    assert (vocabulary.pad_id(), vocabulary.eos_id(), vocabulary.unk_id()) == (0, 1, 2)


def test_the_shipped_vocabulary_is_what_its_command_makes(tmp_path):
    make_vocabulary.train(tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == make_vocabulary.PATH.read_bytes()


def test_documents_are_short_and_answers_balanced(vocabulary, documents):
    lengths = np.diff(corpus.tokenized(5, 6000, vocabulary).offsets)
    assert 25 < lengths.mean() < 50 and lengths.max() <= 96
    answers = Counter(document.pieces[-1] for document in documents)
    for good, bad in (
        ("True", "False"),
        ("yes", "no"),
        ("correct", "wrong"),
        ("positive", "negative"),
        ("choice1", "choice2"),
        ("entailment", "not_entailment"),
    ):
        assert answers[good] > 20 and answers[bad] > 20
    for good, bad in (("True", "False"), ("yes", "no"), ("correct", "wrong")):
        assert abs(answers[good] - answers[bad]) < 5 * (answers[good] + answers[bad]) ** 0.5


def test_task_formats_do_not_occur(documents):
    """The formats that a prompt is to elicit must not have been seen as such."""
    # Keywords in the order of a task, each right after the text (no colon, full stop) of another.
    patterns = (
        r"passage: [^:]*[.?] question: ",
        r"hypothesis: [^:]*[.?] premise: ",
        r"choice1: [^:]*[.?] choice2: [^:]*[.?] premise: ",
        r"question: [^:]*[.?] answer: [^:]* paragraph: ",
        r"query: [^:]*[.?] entities: ",
        r"sentence1: [^:]*[.?] sentence2: [^:]*[.?] word: ",
        r"^sentence: ",
    )
    for document in documents:
        for pattern in patterns:
            assert not re.search(pattern, document.text), document.text
