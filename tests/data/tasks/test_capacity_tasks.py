"""Tasks that ask a prompt to carry a stated number of things, and their errors."""

import pytest

import spjax
from spjax.data.tasks import capacity_records, capacity_tasks, registry
from spjax.pocket.graded import texts
from spjax.vocabularies.vocabulary import load_vocabulary

VOCABULARIES = ("pocket", "graded", "t5")


def records(name, split="train", vocabulary="pocket"):
    return capacity_records.records(registry.get(name).source, split, vocabulary)


def pairs(name, split="train", vocabulary="pocket"):
    return [(row["inputs"], row["targets"]) for row in records(name, split, vocabulary)]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("kind", capacity_tasks.KINDS)
def test_every_kind_suits_every_vocabulary(kind, vocabulary):
    info = registry.get(f"{kind}:k8:context3:middle")
    loaded = load_vocabulary(vocabulary)
    for number, split in enumerate(info.splits):
        rows = pairs(info.name, split, vocabulary)
        assert rows == pairs(info.name, split, vocabulary)
        assert not info.sizes or len(rows) == info.sizes[number]
        for text, target in rows:
            assert len(loaded.encode(text)) < info.input_length
            assert len(loaded.encode(target)) < info.target_length


@pytest.mark.parametrize("kind", capacity_tasks.KINDS)
def test_every_kind_trains(kind, tmp_path):
    method = spjax.PromptTuning(length=2)
    run = spjax.train(
        "pocket_50k", f"{kind}:k4", method, steps=1, batch_size=4, output_dir=tmp_path, trackers=[]
    )
    assert run.status == "finished" and run.validation["score"] >= 0


@pytest.mark.parametrize("labels, expected", [("", 8), (":l2", 2)])
def test_associations_have_so_many_words_and_labels(labels, expected):
    rows = pairs(f"associations:k8{labels}")
    assert len({text for text, _ in rows}) == 8
    assert len({target for _, target in rows}) == expected
    assert rows == pairs(f"associations:k8{labels}", "validation")


def test_labels_of_the_graded_world_are_answers_that_its_models_write():
    rows = capacity_records.records("capacity:associations:k49", "train", "graded")
    assert {row["targets"] for row in rows} == {*texts.ANSWERS}
    with pytest.raises(ValueError, match=r"takes 50 words, and there are 49 .* make K smaller"):
        capacity_records.records("capacity:associations:k50", "train", "graded")


def test_fewer_associations_are_the_first_of_more_and_draws_differ():
    assert pairs("associations:k4") == pairs("associations:k16")[:4]
    assert pairs("associations:k4") != pairs("associations:k4:draw1")


def test_classes_are_scored_on_other_words_of_the_same_labels():
    splits = [dict(pairs("classes:k4", split)) for split in ("train", "validation", "test")]
    assert all(len(set(split.values())) == 4 for split in splits)
    words = [word for split in splits for word in split]
    assert len(words) == len(set(words))


def test_exceptions_are_half_of_the_examples_and_the_rule_has_new_words():
    def parts(split):
        rule, others = set(), set()
        for text, target in pairs("exceptions:k2", split):
            word, value = text.rstrip("?").replace(".", "").split()[:2]
            (rule if value == target else others).add(word)
        return rule, others

    rule, exceptions = parts("train")
    test_rule, test_exceptions = parts("test")
    assert len(exceptions) == 2 and exceptions == test_exceptions
    assert not rule & test_rule


@pytest.mark.parametrize("place, index", [("first", 0), ("middle", 2), ("last", 4)])
def test_context_is_anew_and_holds_none_of_the_words(place, index):
    keys = {text for text, _ in pairs("associations:k4")}
    texts = [text.split() for text, _ in pairs(f"associations:k4:context4:{place}")]
    assert {words[index] for words in texts} == keys
    around = [" ".join([*words[:index], *words[index + 1 :]]) for words in texts]
    assert len(set(around)) == len(texts)
    assert not keys & set(" ".join(around).split())


@pytest.mark.parametrize(
    "name, message",
    [
        ("associations:k64:n8", "trains on 8 examples, fewer than the 64"),
        ("associations:k1", "need a K of 2 or more"),
        ("associations:k4:l8", "8 labels for 4 words"),
        ("associations:k4:l1", "one label, which needs no word"),
        ("associations:k4:k5", "says its items twice"),
        ("associations:k4:first", "has a place and no context"),
        ("associations:k4:context1000", "context is at most 512"),
        ("associations:k4:tint", "unknown variant 'tint'"),
        ("recitation:k3:l2", "recitation has no labels"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ValueError, match=message):
        registry.get(name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("associations:k600", "takes 600 words, and there are 68"),
        ("classes:k40", "takes 40 classes of words, and 17 are known"),
        ("exceptions:k4:context500", "puts 500 other words around each"),
    ],
)
def test_vocabulary_with_too_few_words(name, message):
    with pytest.raises(ValueError, match=message):
        records(name)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([("cup", "red"), ("cup ", "blue")], "are the same tokens"),
        ([("cup", "mondayish"), ("hat", "mondayly")], "begin with the same piece"),
        ([("cup", "日")], "lacks a piece of '日'"),
    ],
)
def test_words_that_a_vocabulary_cannot_tell_apart(rows, message):
    with pytest.raises(ValueError, match=message):
        capacity_records.check(rows, load_vocabulary("pocket"), "mine")


@pytest.mark.parametrize("name", ["associations:k8:l2:draw3", "exceptions:k4:context2:first"])
def test_names_and_parameters_agree(name):
    task, _ = capacity_tasks.parse(name)
    assert capacity_tasks.parse(capacity_tasks.name_of(task))[0] == task
