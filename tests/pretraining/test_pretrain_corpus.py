"""Pre-training over a corpus: T5's objectives to the token, any mesh, from a checkpoint and on."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from spjax import partitioning
from spjax.checkpoints.weights import weights
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.pretraining import pretrain as module
from spjax.pretraining.data import _MOST_TOKENS, _TEXTS, CorpusBatches, Shuffled, _part
from spjax.pretraining.pretrain import pretrain
from spjax.pretraining.recipe import Pretrain
from spjax.pretraining.span_corruption import EOS

QUIET = {"log": lambda text: None}
TINY = T5Config(1152, 16, 4, 8, 32, 1, 1)


class Texts:
    """Documents whose tokens tell them and their places apart."""

    vocabulary_size, fingerprint = 1152, "one build"

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, number):
        return (3 + (np.arange(self.sizes[number]) * 7 + number * 31) % 1000).astype(np.int32)


TEXTS = Texts(np.random.default_rng(0).integers(1, 150, 300))
RECIPE = Pretrain(
    "pocket_50k",
    corpus="c",
    span_steps=2,
    lesson_steps=(),
    adaptation_steps=4,
    long_steps=0,
    rows=8,
    input_length=64,
    target_length=64,
    learning_rate=1.0,
    decay="rsqrt",
    steps_before=100,
    warmup_steps=10,
    keep=(4,),
    checkpoint_period=3,
)


def changed(**values):
    return dataclasses.replace(RECIPE, **values)


def every_example(batches, group, spans):
    texts = range(len(batches.group(group, spans)))
    return [batches.example(group * _TEXTS + text, spans) for text in texts]


def test_prefix_lm_has_every_token_of_128_documents_once():
    documents = Shuffled(TEXTS, 0)
    batches, at = CorpusBatches(RECIPE, documents), 0
    found = every_example(batches, 1, spans=False)
    for place in range(128, 256):
        tokens = documents[place]
        for begin in range(0, len(tokens), 63):  # 64 with EOS
            inputs, targets = found[at]
            whole = np.concatenate([inputs[:-1], targets[:-1]])
            assert whole.tolist() == tokens[begin : begin + 63].tolist()
            assert inputs[-1] == targets[-1] == EOS
            assert len(inputs) > 1 or len(whole) == 1
            at += 1
    assert at == len(found)


def test_span_corruption_joins_documents_and_wastes_nothing():
    documents = Shuffled(TEXTS, 0)
    batches, rebuilt = CorpusBatches(RECIPE, documents), []
    found = every_example(batches, 1, spans=True)
    for inputs, targets in found:
        marks = np.flatnonzero(targets > 1100)
        hidden = {int(part[0]): part[1:] for part in np.split(targets[:-1], marks)[1:]}
        for token in inputs[:-1]:
            rebuilt += hidden.pop(int(token)).tolist() if token > 1100 else [int(token)]
        assert not hidden
    joined = np.concatenate([documents[place] for place in range(128, 256)])
    assert rebuilt == joined.tolist()
    assert {len(inputs) for inputs, _ in found[:-1]} == {64}


def test_a_long_document_gives_one_of_its_pieces():
    whole = np.arange(2 * _MOST_TOKENS + 5, dtype=np.int32)
    pieces = [_part(whole, np.random.default_rng(seed)) for seed in range(30)]
    for piece in pieces:
        assert piece[0] % _MOST_TOKENS == 0 and piece[-1] - piece[0] == len(piece) - 1
    assert {len(piece) for piece in pieces} == {_MOST_TOKENS, 5}
    assert {int(piece[0]) for piece in pieces} == {0, _MOST_TOKENS, 2 * _MOST_TOKENS}
    assert len(_part(whole[:_MOST_TOKENS], None)) == _MOST_TOKENS


def test_targets_that_are_too_long_end_with_eos():
    batches = CorpusBatches(changed(span_steps=0, target_length=8), Shuffled(TEXTS, 0))
    lengths = set()
    for _, targets in every_example(batches, 0, spans=False):
        assert targets[-1] == EOS
        lengths.add(len(targets))
    assert max(lengths) == 8


def test_held_out_documents_are_never_trained_on():
    own, held = Shuffled(TEXTS, 5), Shuffled(TEXTS, 9, held_out=True)
    assert (own.count, held.count) == (297, 3)

    def names(documents, places):
        return [documents[place].tobytes() for place in places]

    first, second = names(own, range(297)), names(own, range(297, 594))
    assert sorted(first) == sorted(second) and first != second
    assert not set(first) & set(names(held, range(3))) and len(set(first)) == 297


def test_batches_follow_from_step_and_number():
    batches, again = (CorpusBatches(RECIPE, Shuffled(TEXTS, 0)) for _ in range(2))
    number, starts = 0, []
    for step in range(6):
        starts.append(number)
        batch, number = batches(step, number)
        assert (batch.input_segments_BL[:, 0] == 1).all()  # no row is empty
    assert starts[3] > starts[2] and starts[2] % _TEXTS != 0
    once, end = again(5, starts[5])
    assert end == number and (once.inputs_BL == batch.inputs_BL).all()
    assert again(2, starts[2])[1] // _TEXTS == 1  # prefix LM begins with whole documents
    assert again.documents_seen(number) == 256


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A run that starts from the weights of a tiny model: recipe, texts, folder and card."""
    folder = tmp_path_factory.mktemp("adapted")
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(path, init_weights(TINY, jax.random.key(0)), {}, dtype="float32")
    parts = (Shuffled(TEXTS, 0), [], Shuffled(TEXTS, 0, held_out=True))
    recipe = changed(model="auto", checkpoint=str(path))
    return recipe, parts, folder, pretrain(recipe, *parts, folder, **QUIET)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """The runs of this file that have one recipe share its compiled step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_step", functools.cache(module.make_step))
        yield


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    return [line["loss"] for line in logged(folder)]


def steps(folder):
    return [line["step"] for line in logged(folder)]


@pytest.mark.slow
def test_adaptation_starts_from_the_checkpoint_and_keeps_chosen_steps(adapted):
    recipe, _, folder, card = adapted
    names = {path.name for path in folder.glob("*.safetensors")}
    assert names == {"auto-4.safetensors", "auto.safetensors"}
    before, kept, last = (
        weights.read(path, TINY)["token_embedder"]["embedding"]
        for path in (recipe.checkpoint, *(folder / name for name in sorted(names)))
    )
    moved = [
        float(np.abs(a - b).mean() / np.abs(before).mean())
        for a, b in ((before, kept), (kept, last), (before, last))
    ]
    assert all(0 < change < 0.5 for change in moved) and kept.dtype == np.float32
    assert {"span_corruption_loss", "prefix_lm_loss"} <= set(card)
    assert card["documents_seen"] == 256 and card["checkpoint"] == recipe.checkpoint


def test_resuming_gives_the_same_weights(adapted, tmp_path, monkeypatch):
    recipe, parts, folder, card = adapted
    make_step, made = module.make_step, []

    def breaks(config):
        inner = make_step(config)

        def step(*args):
            made.append(1)
            if len(made) == 5:
                raise KeyboardInterrupt
            return inner(*args)

        return step

    monkeypatch.setattr(module, "make_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, *parts, tmp_path, **QUIET)
    rebuilt = Texts(TEXTS.sizes)
    rebuilt.fingerprint = "two builds"
    with pytest.raises(ValueError, match="3 steps with another build of the corpus 'c' .one buil"):
        pretrain(recipe, Shuffled(rebuilt, 0), *parts[1:], tmp_path, **QUIET)
    assert steps(tmp_path) == [3, 4]  # the last was written after the checkpoint
    assert pretrain(recipe, *parts, tmp_path, **QUIET) == card
    assert len(made) == 5 + 3  # it went on from step 3
    assert steps(folder) == [3, 4, 6]
    assert (tmp_path / "log.jsonl").read_text() == (folder / "log.jsonl").read_text()
    assert card["corpus_fingerprint"] == "one build"
    same = {
        weights.digest(weights.read(path / "auto.safetensors", TINY)) for path in (folder, tmp_path)
    }
    assert len(same) == 1


def test_held_out_documents_are_gone_through_in_parts(adapted, monkeypatch):
    recipe, parts, folder, card = adapted
    compute, rows = module.loss_and_accuracy, []

    def counts(model, params, batch, *total):
        rows.append(len(batch.inputs_BL))
        return compute(model, params, batch, *total)

    monkeypatch.setattr(module, "loss_and_accuracy", counts)
    params = weights.read(folder / "auto.safetensors", TINY)
    in_parts = dataclasses.replace(recipe, microbatches=2)
    found = module.held_out_losses(in_parts, params, parts[2])
    assert set(rows) == {4}
    for name, value in found.items():
        np.testing.assert_allclose(value, card[name], rtol=1e-5, err_msg=name)


def test_the_last_weights_are_there_before_the_evaluation(adapted, tmp_path, monkeypatch):
    def fails(*args):
        raise MemoryError

    recipe, parts, _, _ = adapted
    monkeypatch.setattr(module, "held_out_losses", fails)
    with pytest.raises(MemoryError):
        pretrain(recipe, *parts, tmp_path, **QUIET)
    assert weights.read(tmp_path / "auto.safetensors", TINY)
    assert not (tmp_path / "auto.json").exists()  # with which it would be finished


@pytest.mark.slow
def test_any_mesh_gives_the_losses_of_one_device(adapted, tmp_path, monkeypatch):
    """Four simulated devices with data-parallel rows are those of the other tests."""
    recipe, parts, folder, _ = adapted
    how = {"logical_axis_rules": "fsdp", "num_partitions": 2, "microbatches": 2, "remat": True}
    spread = dataclasses.replace(recipe, **how)
    monkeypatch.setattr(module, "held_out_losses", lambda *args: {})  # not compared
    assert recipe.placement().mesh.size == spread.placement().mesh.size == 4
    pretrain(spread, *parts, tmp_path / "spread", **QUIET)
    alone, step = partitioning.Placement(partitioning.make_mesh(1)), module.make_step.__wrapped__
    monkeypatch.setattr(module, "make_step", step)
    monkeypatch.setattr(Pretrain, "placement", lambda self: alone)
    pretrain(recipe, *parts, tmp_path / "alone", **QUIET)
    wanted = losses(tmp_path / "alone")
    np.testing.assert_allclose(losses(tmp_path / "spread"), wanted, rtol=1e-4)
    np.testing.assert_allclose(losses(folder), wanted, rtol=1e-4)


def test_the_rate_goes_on_from_the_steps_before():
    rates = [
        float(changed(steps_before=before, warmup_steps=10_000).schedule()(step))
        for before, step in ((1_000_000, 0), (1_000_000, 100_000), (0, 0), (0, 40_000))
    ]
    np.testing.assert_allclose(rates, [1e-3, 9.5346e-4, 1e-2, 5e-3], rtol=1e-4)


def test_large_numbers_come_back_from_a_checkpoint(tmp_path):
    import orbax.checkpoint as ocp

    number = (3_000_000 << 24) + 17  # C4 has 365 million documents
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(1, args=ocp.args.StandardSave({"number": number}))
        manager.wait_until_finished()
        found = manager.restore(1, args=ocp.args.StandardRestore({"number": 0}))
    assert int(found["number"]) == number


@pytest.mark.parametrize(
    "values, message",
    [
        ({"lesson_steps": (1,)}, "lessons and long rows .* set Pretrain.lesson_steps = "),
        ({"target_length": 13}, "target_length is 13; span corruption of 64 .* needs 14"),
        ({"decay": "cosine"}, "Pretrain.decay is 'cosine'; it must be one of linear, rsqrt"),
        ({"microbatches": 3}, "Pretrain.microbatches is 3, which does not divide .*rows .8."),
        ({"logical_axis_rules": "fsd"}, "logical_axis_rules is 'fsd'; use one of"),
        ({"keep": 10000}, "Pretrain.keep is 10000; it must be a tuple such as"),
        ({"keep": (7,)}, "Pretrain.keep is .7,.; .* from 0 to 6, the steps of the run"),
        ({"rows": "x"}, "Pretrain.rows is 'x'; it must be a whole number of at least 1"),
        ({"seed": -1}, "Pretrain.seed is -1; it must be a whole number of at least 0"),
        (
            {"warmup_steps": -1},
            "Pretrain.warmup_steps is -1; it must be a whole number of at least 0",
        ),
        (
            {"input_length": 1},
            "Pretrain.input_length is 1; it must be a whole number of at least 2",
        ),
        (
            {"learning_rate": -1.0},
            "Pretrain.learning_rate is -1.0; it must be a number above 0 and at most 1000",
        ),
        (
            {"decay_fraction": 2},
            "Pretrain.decay_fraction is 2; it must be a number of at least 0 and at most 1",
        ),
        ({"model": "auto"}, "INITIAL_CHECKPOINT_PATH holds, which is empty"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        changed(**values)


def test_a_corpus_with_more_ids_than_the_model():
    texts = Texts([5, 5, 5])
    texts.vocabulary_size = 32_100
    with pytest.raises(ValueError, match="the corpus 'c' has 32100 ids and the embedding of poc"):
        module.make_batches(RECIPE, Shuffled(texts, 0))
