"""Votes and averages by hand, and the answers of prompts asked together."""

import numpy as np
import pytest

from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.data.tasks import registry
from spjax.inference import ensembles, scoring
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.vocabularies import vocabulary

pytestmark = pytest.mark.usefixtures("few_examples")

TEXTS = ["the fox", "a dog sees the old house near the river", "it is cold " * 9, "no", ""]
LABELS = ("True", "False", "entailment")


def test_the_most_votes_win_and_scores_decide_ties():
    assert ensembles.vote(["a", "b", "b"], [0.0, -9.0, -9.0]) == "b"
    assert ensembles.vote(["a", "b", "b", "a"], [-1.0, -2.0, -3.0, -3.5]) == "a"
    assert ensembles.vote(["a", "b", "b", "a"], [-1.0, -2.0, -3.0, -4.5]) == "b"
    assert ensembles.vote(["a", "b"], [-1.0, -1.0]) == "a"


def test_probabilities_are_averaged_and_not_their_logarithms():
    chances = np.array([[0.6, 0.4], [0.6, 0.4], [1e-6, 1 - 1e-6]])
    assert ensembles.mean(np.log(chances)) == 1
    assert ensembles.mean(np.log(chances[:2])) == 0
    # What a prompt gives to texts that are no labels does not weaken its voice.
    shy = np.log([[0.6, 0.4], [1e-30, 9e-30]])
    assert ensembles.mean(shy) == 1
    # The logarithms of a sure prompt would outvote two others.
    sure = np.log([[0.9, 0.1], [0.9, 0.1], [1e-9, 1.0]])
    assert ensembles.mean(sure) == 0


def test_scores_without_each_block_of_examples():
    info = registry.get("pocket_boolq")
    examples = [{"targets_text": "True"}] * 10
    texts = ["True"] * 4 + ["False"] * 6
    whole = scoring.score(info, texts, examples)["score"]
    assert whole == pytest.approx(40)
    assert scoring.without_blocks(info, texts, examples, 5) == pytest.approx([25, 25, 50, 50, 50])
    assert len(scoring.without_blocks(info, texts, examples, 99)) == 10


@pytest.fixture(scope="module")
def ask(checkpoint):
    base, words = weights.load("pocket_50k", checkpoint), vocabulary.load_vocabulary("pocket")
    rng = np.random.default_rng(0)
    own = [
        PreparedPrompt(
            Prompt.from_array(2 * rng.normal(size=(n, 16)).astype(np.float32)),
            where,
            LABELS,
            sentinel,
        )
        for n, where, sentinel in ((1, "front", False), (6, "end", False), (4, "front", False))
    ]

    def make(kind, prompts=own):
        config = get_size("pocket_50k")
        return Predictor(config, base, prompts, words, Decoding(kind), 40, target_length=4)

    make.own = own
    return make


def test_a_given_answer_has_the_probability_it_is_ranked_by(ask):
    predictor = ask("rank")
    inputs = [predictor.encode(text)[0] for text in TEXTS]
    who = [0, 1, 2, 1, 0]
    scores_BC = predictor.label_scores(inputs, who)
    assert predictor.labels == LABELS and scores_BC.shape == (5, 3)
    for column, label in zip(scores_BC.T, LABELS):
        found = predictor.log_probabilities(inputs, who, [label] * 5)
        np.testing.assert_allclose(found, column, rtol=1e-4)
    best = predictor.answer(inputs, who)
    assert [answer.text for answer in best] == [LABELS[i] for i in scores_BC.argmax(axis=1)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["greedy", "rank"])
def test_a_vote_counts_the_answers_that_prompts_give_alone(ask, kind):
    predictor = ask(kind)
    inputs = [predictor.encode(text)[0] for text in TEXTS]
    own, together = ensembles.answer(predictor, [inputs] * 3, range(5), "vote")
    for prompt, texts in zip(ask.own, own, strict=True):
        alone = ask(kind, [prompt]).answer(inputs, [0] * 5)
        assert [answer.text for answer in alone] == texts
    columns = list(zip(*own))
    assert any(len(set(texts)) > 1 for texts in columns)
    for text, ids, texts in zip(together, inputs, columns):
        most = max(map(texts.count, texts))
        leading = [i for i in range(3) if texts.count(texts[i]) == most]
        if most > 1:
            assert text == texts[leading[0]]
        else:
            scores = predictor.log_probabilities([ids] * 3, [0, 1, 2], texts)
            assert text == texts[int(scores.argmax())]


def test_the_mean_is_over_the_prompts_of_each_example(ask):
    predictor = ask("rank")
    inputs = [predictor.encode(text)[0] for text in TEXTS]
    own, together = ensembles.answer(predictor, [inputs] * 3, range(5), "mean")
    chances = 0
    for name in range(3):
        scores = predictor.label_scores(inputs, [name] * 5)
        assert own[name] == [LABELS[i] for i in scores.argmax(axis=1)]
        chances += np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert together == [LABELS[i] for i in chances.argmax(axis=1)]


def test_mistakes(ask):
    with pytest.raises(ValueError, match="unknown ensemble 'most'; use one of vote, mean"):
        ensembles.answer(ask("rank"), [[[1]]] * 3, [0], "most")
    with pytest.raises(ValueError, match="decoding is 'greedy'; use 'rank'"):
        ensembles.answer(ask("greedy"), [[[1]]] * 3, [0], "mean")
