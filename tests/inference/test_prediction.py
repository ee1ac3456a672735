"""Answers under several prompts at once, and those of runs and prompt files."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.inference import prediction
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.vocabularies import vocabulary

TEXTS = ["the fox", "a dog sees the old house near the river", "", "it is cold " * 9, "no"]
LABELS = (("True", "False"), ("choice1", "choice2", "True"), ("entailment",))


@pytest.fixture(scope="module")
def base(checkpoint):
    return weights.load("pocket_50k", checkpoint)


def placed():
    """Prompts of 1, 7 and 4 rows in all three places."""
    rng = np.random.default_rng(0)
    sizes, places = (1, 7, 4), ("front", "after_first", "end")
    return [
        PreparedPrompt(
            Prompt.from_array(rng.normal(size=(n, 16)).astype(np.float32)), where, labels
        )
        for n, where, labels in zip(sizes, places, LABELS)
    ]


def predictor(base, own, how, **lengths):
    lengths = {"input_length": 40, "target_length": 4, **lengths}
    words = vocabulary.load_vocabulary("pocket")
    return Predictor(get_size("pocket_50k"), base, own, words, how, **lengths)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "rank"])
def test_a_mixed_batch_answers_as_one_prompt_at_a_time(base, kind):
    how, own = Decoding(kind, num_beams=2), placed()
    pairs = list(itertools.product(range(3), TEXTS))
    pairs = [pairs[i] for i in np.random.default_rng(1).permutation(len(pairs))]
    mixed = predictor(base, own, how)
    inputs = [mixed.encode(text)[0] for _, text in pairs]
    together = mixed.answer(inputs, [name for name, _ in pairs], range(10, 10 + len(pairs)))
    assert len({answer.text for answer in together}) >= 3
    for name in range(3):
        alone = predictor(base, own[name : name + 1], how)
        mine = [i for i, (other, _) in enumerate(pairs) if other == name]
        answers = alone.answer([inputs[i] for i in mine], [0] * len(mine), [10 + i for i in mine])
        for i, answer in zip(mine, answers, strict=True):
            assert answer.text == together[i].text
            if kind in ("beam", "rank"):
                assert answer.score == pytest.approx(together[i].score, abs=1e-4)
            else:
                assert answer.score is None and together[i].score is None
            if kind == "rank":
                assert answer.text in LABELS[name]


def test_prompts_of_sentinel_tasks_rank_and_lose_the_sentinel(base):
    prompt = Prompt.from_array(placed()[0].prompt.soft_tokens_PD, {"task": "pocket_boolq:sentinel"})
    marked = prediction.prepare(prompt)
    assert marked.sentinel and marked.labels == ("False", "True")
    found = predictor(base, [marked], Decoding("rank"))
    words = vocabulary.load_vocabulary("pocket")
    assert {row[0] for row in found._labels_CM.tolist()} == {words.sentinel(0)}
    inputs = [found.encode(text)[0] for text in TEXTS]
    answers = found.answer(inputs, [0] * len(inputs))
    assert {answer.text for answer in answers} <= {"False", "True"}
    labels = ("<extra_id_0> False", "<extra_id_0> True")
    plain = dataclasses.replace(marked, sentinel=False, labels=labels)
    same = predictor(base, [plain], Decoding("rank")).answer(inputs, [0] * len(inputs))
    assert [f"<extra_id_0> {answer.text}" for answer in answers] == [other.text for other in same]


def test_too_long_texts_are_cut_as_in_training(base):
    short = predictor(base, placed()[:1], Decoding(), input_length=6)
    words = short.vocabulary.encode(TEXTS[3])
    assert short.encode(TEXTS[3]) == ([*words[:5], 1], len(words) + 1)
    assert short.encode("no") == (
        [*short.vocabulary.encode("no"), 1],
        len(short.vocabulary.encode("no")) + 1,
    )


def test_fields_without_a_template_are_refused(base):
    plain = predictor(base, placed()[:1], Decoding())
    with pytest.raises(ValueError, match="'word': 'bird'.*prompt 0 has no template"):
        plain.encode({"word": "bird"})


def test_doubts():
    model = FrozenModel.open("pocket_50k")
    rows, words = np.ones((2, 16), np.float32), model.vocabulary.fingerprint
    trained = {"model": "pocket_50k", "base_sha256": model.digest, "vocabulary_sha256": words}

    def doubts(facts, model=model):
        return prediction.doubts(Prompt.from_array(rows, facts), model)

    assert not doubts(trained) and not doubts({}) and not doubts({"model": "auto"})
    (doubt,) = doubts({**trained, "base_sha256": "0"})
    assert "trained with other weights of pocket_50k" in doubt
    (doubt,) = doubts({"model": "pocket_3m"})
    assert "trained with pocket_3m, not with pocket_50k" in doubt
    (doubt,) = doubts({**trained, "vocabulary_sha256": "0"})
    assert "another vocabulary than" in doubt and "vocabulary.model" in doubt
    assert len(doubts({"model": "pocket_3m", "vocabulary_sha256": "0"})) == 2
    auto = SimpleNamespace(name="auto", digest=model.digest, vocabulary=model.vocabulary)
    assert not doubts({**trained, "model": "pocket_3m"}, auto)


def test_what_a_prompt_says_of_itself():
    facts = {"task": "pocket_cb", "insertion": "end"}
    prompt = Prompt.from_array(np.ones((2, 16), np.float32), facts)
    own = prediction.prepare(prompt)
    assert own.insertion == "end" and own.labels[0] == "entailment"
    given = prediction.prepare(prompt, "front", ("a", "b"))
    assert given.insertion == "front" and given.labels == ("a", "b")
    assert prediction.prepare(dataclasses.replace(prompt, provenance={})).insertion == "front"


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"insertion": "middle"}, {}, "unknown insertion 'middle'; choose one of front"),
        (
            {"prompt": Prompt.from_array(np.ones((2, 8), np.float32))},
            {},
            "width 8 and the model is 16 wide",
        ),
        (
            {"prompt": Prompt({}, {"sees_text": "no"}, "p.npy")},
            {},
            "p.npy: the provenance has sees_text='no'",
        ),
        ({"labels": ()}, {}, r"labels to rank are \[\]; give at least one"),
        ({}, {"input_length": 1}, "input length is 1; it must be 2 to 65536"),
        ({}, {"target_length": 0}, "target length is 0; it must be 2 to 65536"),
        ({}, {"target_length": 10**9}, "target length is 1000000000; it must be 2 to"),
    ],
)
def test_mistakes(change, options, message):
    own = [dataclasses.replace(placed()[0], **change)]
    with pytest.raises(ValueError, match=message):
        predictor({}, own, Decoding("rank"), **options)


def test_a_vocabulary_of_another_model():
    small = dataclasses.replace(get_size("pocket_50k"), vocab_size=100)
    with pytest.raises(ValueError, match="embedding only 100 rows"):
        Predictor(small, {}, placed(), vocabulary.load_vocabulary("pocket"), Decoding())


def test_a_prompt_of_several_tasks_has_no_task_of_its_own():
    for name in ("pocket_boolq+pocket_rte", "pocket_boolq:n10+pocket_rte"):
        assert (
            prediction.task_of(Prompt.from_array(np.ones((1, 16), np.float32), {"task": name}))
            is None
        )
