import dataclasses
import hashlib
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from spjax.checkpoints.weights import weights
from spjax.cli.pretrain import load_texts
from spjax.models import get_size
from spjax.pretraining import pretrain as module
from spjax.pretraining.pretrain import pretrain
from spjax.pretraining.recipe import Pretrain
from spjax.vocabularies.vocabulary import load_vocabulary


def documents(count=60):
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(8, 20, count))])
    tokens = rng.integers(3, 40, offsets[-1]).astype(np.int32)
    splits = np.sort(rng.choice(offsets[-1], count, replace=False))
    return SimpleNamespace(tokens=tokens, offsets=offsets, splits=splits)


RECIPE = Pretrain(
    "pocket_50k",
    span_steps=8,
    lesson_steps=(2, 1),
    adaptation_steps=8,
    rows=4,
    input_length=32,
    target_length=32,
    long_steps=2,
    long_length=64,
    warmup_steps=2,
    checkpoint_period=4,
)


LESSONS = (documents(30), documents(40))


def test_batches_are_the_ones_they_were():
    """Those that the shipped weights were made with, by the recipe of this file."""
    batches = module.Batches(RECIPE, documents(200), LESSONS, 1152)
    number, total = 0, hashlib.sha256()
    for step in range(RECIPE.steps):
        batch, number = batches(step, number)
        for leaf in jax.tree.leaves(batch):
            total.update(np.ascontiguousarray(leaf).tobytes())
    assert (number, total.hexdigest()[:16]) == (168, "ebeb3e7217f6ae60")


@pytest.mark.slow
def test_resuming_gives_the_same_weights(tmp_path, monkeypatch):
    quiet = {"log": lambda text: None}
    card = pretrain(RECIPE, documents(), LESSONS, documents(), tmp_path / "whole", **quiet)
    make_step, made = module.make_step, []

    def breaks_in_the_middle(config):
        inner = make_step(config)

        def step(*args):
            made.append(1)
            if len(made) == 10:
                raise KeyboardInterrupt
            return inner(*args)

        return step

    monkeypatch.setattr(module, "make_step", breaks_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        pretrain(RECIPE, documents(), LESSONS, documents(), tmp_path / "cut", **quiet)
    pretrain(RECIPE, documents(), LESSONS, documents(), tmp_path / "cut", **quiet)
    assert len(made) == 10 + 10  # it went on from step 8
    names = [f"pocket_50k{part}.safetensors" for part in ("", "-lm00", "-lm10")]
    for name in names:
        pair = [
            weights.digest(weights.read(tmp_path / folder / name, get_size("pocket_50k")))
            for folder in ("whole", "cut")
        ]
        assert pair[0] == pair[1], name
    assert card == json.loads((tmp_path / "whole" / "pocket_50k.json").read_text())
    assert 0 < card["prefix_lm_loss"] < 10 and 0 < card["long_lm_loss"] < 10
    assert card["documents_seen"] > 60


def test_prefix_lm_begins_with_the_lessons():
    lessons = [
        SimpleNamespace(
            tokens=np.full(10, word, np.int32),
            offsets=np.array([0, 5, 10]),
            splits=np.array([3, 8]),
        )
        for word in (50, 60)
    ]
    batches = module.Batches(RECIPE, documents(), lessons, 1152)
    seen = [np.unique(batches(step, 0)[0].inputs_BL) for step in range(12)]
    assert all(1151 in seen[step] and 50 not in seen[step] for step in range(8))
    assert [[word for word in seen[step] if word > 1] for step in (8, 9, 10)] == [[50], [50], [60]]
    assert max(seen[11]) < 40
    batch, number = batches(8, 0)
    assert number > 2  # a lesson is gone through again
    assert batch.targets_BM[0, :6].tolist() == [50, 50, 1] * 2  # its targets are the answers


def test_nan_stops_with_the_step_and_is_never_saved(tmp_path):
    """The loss of a step is that before its update, and so still finite."""
    values = {"warmup_steps": 0, "checkpoint_period": 1, "keep": (1,)}
    broken = Pretrain(**{**vars(RECIPE), **values})
    object.__setattr__(broken, "learning_rate", float("inf"))  # refused by the constructor
    with pytest.raises(FloatingPointError, match="norm of the weights of pocket_50k .* step 1;"):
        pretrain(broken, documents(), LESSONS, documents(), tmp_path, log=lambda text: None)
    assert not list(tmp_path.glob("*-1.safetensors"))
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_the_world_is_that_of_the_model_s_vocabulary():
    assert RECIPE.world == "pocket"
    recipe = Pretrain("graded_50k", lesson_steps=(100, 50), documents=50, lesson_documents=30)
    assert recipe.world == "graded"
    texts, lessons, held_out = load_texts(recipe)
    assert [len(part.offsets) - 1 for part in (texts, *lessons)] == [50, 30, 30]
    words = load_vocabulary("graded")
    for part in (texts, *lessons, held_out):
        assert words.unk_id not in part.tokens and part.tokens.max() < words.size


def test_a_loss_that_became_nan_is_named():
    figures = [(np.float32(2.0), np.float32(9.0)), (np.float32("nan"), np.float32("nan"))]
    with pytest.raises(FloatingPointError, match="the loss of pocket_50k became nan at step 7;"):
        module._mean(RECIPE, figures, 7)


def test_schedule():
    recipe = Pretrain(
        "pocket_50k",
        span_steps=100,
        lesson_steps=(60,),
        adaptation_steps=300,
        learning_rate=1.0,
        warmup_steps=50,
        long_steps=100,
    )
    values = [float(recipe.schedule()(step)) for step in (0, 25, 50, 239, 320, 400, 450, 500)]
    np.testing.assert_allclose(values, [0, 0.5, 1, 1, 0.51, 0.25, 0.135, 0.02], atol=1e-6)


def test_the_last_texts_stand_behind_words():
    texts = documents(200)
    texts.tokens[:] = 30
    texts.tokens[: texts.offsets[1]] = 50  # the first document
    batches = module.Batches(RECIPE, texts, LESSONS, 1152)
    before, after = batches(15, 0)[0], batches(16, 0)[0]
    assert before.inputs_BL.shape == (4, 32) and after.inputs_BL.shape == (2, 64)
    assert before.inputs_BL[0, 0] == 50
    row = after.inputs_BL[0][after.input_segments_BL[0] == 1]
    text = int(np.argmin(row[-2::-1] == 50))  # from the end, before EOS
    words = len(row) - 1 - text
    assert row[-1] == 1 and text > 0 and 0 < words <= 64 - 32
    assert np.mean(row[:words] == 30) > 0.8


def test_long_rows_come_among_the_others():
    recipe = dataclasses.replace(RECIPE, long_every=3, long_steps=0, lesson_steps=())
    batches = module.Batches(recipe, documents(200), (), 1152)
    lengths = [batches(step, 0)[0].inputs_BL.shape[1] for step in range(recipe.steps)]
    assert lengths == [32] * 8 + [32, 32, 64] * 2 + [32, 32]


def test_bad_settings():
    with pytest.raises(
        ValueError, match="Pretrain.rows is 0; it must be a whole number of at least 1"
    ):
        Pretrain("pocket_50k", rows=0)
    with pytest.raises(ValueError, match="Pretrain.lesson_steps is 300; it must be a tuple such"):
        Pretrain("pocket_50k", lesson_steps=300)
    with pytest.raises(ValueError, match="the lessons take 30 steps .* more than the 20"):
        Pretrain("pocket_50k", lesson_steps=(20, 10), adaptation_steps=20)
    with pytest.raises(ValueError, match="long_length is 64; it must be more than .* .64."):
        Pretrain("pocket_50k", long_length=64)
    with pytest.raises(ValueError, match="unknown model size 'pocket_51k'"):
        Pretrain("pocket_51k")
