"""Requirements of every method in `spjax/methods/`; the folder is enumerated."""

import functools
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BASE, CONFIG, TARGET, forward, moved, packed, row, rows, small, stacked, written

from spjax import config, methods, trees
from spjax.checkpoints import array_files
from spjax.injection import Soft, join
from spjax.methods.base import apply_gang, init_trainable
from spjax.methods.initializers import Uniform
from spjax.methods.lora import LoRA
from spjax.models import T5
from spjax.studies import plan, results, run_folder, worker
from spjax.studies.study import Arm, Study
from spjax.training import trainer
from spjax.training.optimizers import Adafactor
from spjax.training.run_files import Checkpoints
from spjax.training.schedule import Standing

ALL = methods.names()
EVERY = [name for name in ALL if methods.get(name).trained]
OPTIMIZER = Adafactor(1.0, weight_decay_rate=0.0)
GANGING = [name for name in EVERY if not methods.get(name).changes_weights]


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@functools.cache
def alone(name, length=3, seed=0):
    """A method, parameters of one run, and its logits for one row."""
    method = small(name, length=length)
    return method, moved(method, seed)


@pytest.mark.parametrize("name", ALL)
def test_the_interface(name):
    method = small(name)
    assert methods.name_of(method) == name and inspect.getdoc(methods.get(name))
    trainable = init_trainable(method, BASE, seed=0)
    weights, soft = jax.eval_shape(lambda own: method.apply({"params": own}, BASE), trainable)
    assert jax.tree.map(jnp.shape, weights) == jax.tree.map(jnp.shape, BASE)
    bound = "length" in inspect.signature(methods.get(name)).parameters
    assert method.length_in_tables == (3 if bound else 0)
    shape = None if soft is None or soft.prompt is None else soft.prompt.shape
    assert shape == ((method.prompt_length, 16) if method.prompt_length else None)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trainable))
    again = init_trainable(method, BASE, seed=0)
    assert all(map(np.array_equal, jax.tree.leaves(trainable), jax.tree.leaves(again)))
    assert hash(method.without_initializer()) == hash(small(name).without_initializer())
    # Its buffers are donated to the step; the base must survive that.
    own = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(trainable)}
    assert not own & {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(BASE)}


@pytest.mark.parametrize("name", EVERY)
def test_parameter_counts_are_right(name):
    method = small(name)
    sizes = {
        "P": 3,
        "M": 5,
        "R": 2,
        "S": 1,
        "D": CONFIG.emb_dim,
        "H": CONFIG.num_heads,
        "K": CONFIG.head_dim,
        "F": CONFIG.mlp_dim,
        "E": CONFIG.num_encoder_layers,
        "L": CONFIG.num_decoder_layers,
        "W": trees.count(BASE),
    }
    assert all(re.fullmatch(r"[A-Z\d *+()]+", text) for text in method.parameter_counts)
    counts = [eval(text, {}, sizes) for text in method.parameter_counts]
    assert trees.count(init_trainable(method, BASE, 0)) in counts, method.parameter_counts


def program(method):
    return trainer.StepConfig(CONFIG, (method,), OPTIMIZER, 0.0, 0.0, None)


def first_state(method):
    trainable = stacked(init_trainable(method, BASE, 0))
    slots = jax.vmap(OPTIMIZER.make(0.0).init)(trainable)
    return trainer.TrainState(trainable, slots, jnp.zeros(1, jnp.int32), jnp.ones(1, bool))


def updated(method, state):
    batch = rows([method.prompt_length] * 2)
    batch = batch.replace(runs_BG=batch.runs_BG * 0)
    rates = jnp.full(1, 0.01, jnp.float32)
    asked = [batch], jnp.ones(1, jnp.float32), rates, jax.random.key(0)
    states, stats = trainer.train_step(program(method), (state,), BASE, *asked)
    return states[0], float(stats.loss_N[0])


@pytest.mark.parametrize("name", EVERY)
def test_every_own_parameter_moves_and_nothing_else_and_training_goes_on(name, tmp_path):
    method, before = small(name), trees.flatten(jax.tree.map(np.array, BASE))
    state, first = updated(method, first_state(method))
    start = jax.tree.map(np.array, state.trainable)
    arrays = jax.tree.map(lambda x: x[0], {"trainable": state.trainable, "slots": state.optimizer})
    files = Checkpoints(tmp_path)
    files.save(jax.tree.map(np.asarray, arrays), Standing(step=1))
    last, second = updated(method, state)
    assert second < first
    # The second step, because LoRA's A stands still until B has left 0. Without weight decay
    # only what has a gradient moves.
    for path, leaf in trees.flatten(last.trainable).items():
        went = np.asarray(leaf) != trees.flatten(start)[path]
        # Words that do not occur and distances longer than the text have none, nor has a ReLU
        # that is shut.
        assert went.any() if "embedding" in path or "head_" in path else went.all(), path
    for path, leaf in trees.flatten(BASE).items():
        np.testing.assert_array_equal(leaf, before[path])
    found, _ = files.latest(jax.tree.map(jnp.zeros_like, arrays))
    files.close()
    found = jax.tree.map(lambda x: jnp.asarray(x)[None], found)
    ones = jnp.ones(1, jnp.int32), jnp.ones(1, bool)
    resumed, again = updated(method, trainer.TrainState(found["trainable"], found["slots"], *ones))
    assert again == second
    jax.tree.map(np.testing.assert_array_equal, resumed.trainable, last.trainable)


@pytest.mark.slow
@pytest.mark.parametrize("name", GANGING)
def test_gang_and_packed_rows_equal_single_runs(name):
    runs = [alone(name, 2, 0), alone(name, 2, 1), alone(name, 4, 2)]
    groups = (runs[0][0], runs[2][0])
    trainables = (stacked(runs[0][1], runs[1][1]), stacked(runs[2][1]))
    batch = rows([method.prompt_length for method, _ in runs])
    together = forward(groups, trainables, batch)
    one_row = forward(groups, trainables, packed(batch))[0]
    expected = []
    for i, (method, own) in enumerate(runs):
        single = forward([method], [stacked(own)], row(batch, i))[0]
        real = np.asarray(batch.target_segments_BM[i]) > 0
        close(together[i][real], single[real])
        expected.append(single[real])
    close(one_row, np.concatenate(expected))
    assert np.abs(together[0] - together[1]).max() > 0.01  # runs do differ


@pytest.mark.parametrize("name", [name for name in EVERY if name not in GANGING])
def test_packed_rows_equal_single_rows_where_weights_change(name):
    method, own = alone(name)
    batch = rows([method.prompt_length] * 2)
    batch = batch.replace(runs_BG=batch.runs_BG * 0)
    apart = forward([method], [stacked(own)], batch)
    one_row = forward([method], [stacked(own)], packed(batch))[0]
    close(one_row, apart[np.asarray(batch.target_segments_BM) > 0])


@pytest.mark.slow
def test_runs_of_all_methods_share_a_batch():
    runs = [alone(name) for name in GANGING]
    batch = rows([method.prompt_length for method, _ in runs])
    mixed = [method for method, _ in runs], [stacked(own) for _, own in runs]
    together, answers = forward(*mixed, batch), written(*mixed, batch)
    for i, (method, own) in enumerate(runs):
        one = [method], [stacked(own)], row(batch, i)
        real = np.asarray(batch.target_segments_BM[i]) > 0
        close(together[i][real], forward(*one)[0][real])
        np.testing.assert_array_equal(answers[i], written(*one)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_cached_decoding_equals_teacher_forcing(name):
    method, own = alone(name)
    batch = row(rows([method.prompt_length]), 0)
    ids = written([method], [stacked(own)], batch)
    asked = batch.replace(targets_BM=ids, target_segments_BM=np.ones_like(ids))
    best = forward([method], [stacked(own)], asked).argmax(-1)
    ended = np.cumsum(ids == 1, axis=1) - (ids == 1) > 0
    np.testing.assert_array_equal(np.where(ended, 0, best), ids)
    assert ids.shape == (1, TARGET)


@pytest.mark.parametrize("name", GANGING)
def test_what_is_written_of_a_run_is_enough_to_answer(name, tmp_path):
    method, own = alone(name)
    tensors = jax.tree.map(np.asarray, method.collapse(own, BASE))
    array_files.write_safetensors(tmp_path / "tuned.safetensors", tensors, {})
    read, _ = array_files.read_safetensors(tmp_path / "tuned.safetensors")
    again = Soft.of(read)
    batch = row(rows([method.prompt_length]), 0)
    injection = join([jax.tree.map(lambda x: x[None], again)])
    logits = jax.jit(T5(CONFIG).apply)({"params": BASE}, batch, injection)
    close(logits, forward([method], [stacked(own)], batch))


TOY = '''
"""A toy."""

from spjax.methods.base import Method
from spjax.injection import Soft


class ToyShift(Method):
    """One number for all."""

    parameter_counts = ("1",)

    def setup(self):
        self.shift = self.param("shift", lambda _: 0.0)

    def __call__(self, base):
        width = base["token_embedder"]["embedding"].shape[1]
        return base, Soft(added=self.shift * __import__("jax").numpy.ones((1, width)))
'''


def test_a_method_is_added_by_its_file_alone(tmp_path, monkeypatch):
    (tmp_path / "toy_shift.py").write_text(TOY)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    assert methods.names() == tuple(sorted((*ALL, "toy_shift")))
    method = small("toy_shift")
    assert methods.name_of(method) == "toy_shift"
    batch = row(rows([0]), 0)
    own = init_trainable(method, BASE, 0)
    plain = jax.jit(T5(CONFIG).apply)({"params": BASE}, batch)
    close(forward([method], [stacked(own)], batch), plain)
    config.register_all.cache_clear()
    files = ["gin_configs/models/pocket.gin", "gin_configs/runs/pocket.gin"]
    bindings = ["Run.method = @ToyShift()", "MODEL_SIZE = 'pocket_50k'"]
    bindings += ["MIXTURE_OR_TASK_NAME = 'pocket_cb'"]
    assert config.load("Run", files, bindings).method_name == "toy_shift"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A method in a folder that counts as part of the methods'; the gin text that chooses it."""
    (tmp_path / "toy_shift.py").write_text(TOY)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    config.register_all.cache_clear()
    (tmp_path / "toy_shift.gin").write_text("Run.method = @ToyShift()\n")
    return str(tmp_path / "toy_shift.gin")


@pytest.mark.slow
def test_the_sweep_takes_a_method_from_its_file_alone(toy, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(Path(methods.__file__).parents[2])
    files = ("gin_configs/models/pocket.gin", "gin_configs/runs/pocket.gin", toy)
    fixed = {"MODEL_SIZE": "pocket_50k", "MIXTURE_OR_TASK_NAME": "pocket_cb", "TRAIN_STEPS": 1}
    fixed |= {"INITIAL_CHECKPOINT_PATH": checkpoint, "Run.eval_examples": 4}
    specs = plan.expand(Study("toys", [Arm("toys", files, {"SEED": [0, 1]}, fixed)]))
    assert [spec.labels["method"] for spec in specs] == ["toy_shift"] * 2
    (gang,) = plan.gangs(specs, lambda spec: 2)
    for spec in gang:
        run_folder.prepare(spec.folder(tmp_path), spec.text)
    worker.train_folders([spec.folder(tmp_path) for spec in gang], lambda progress: None)
    rows = results.rows("toys", specs, tmp_path)
    found = {(row["method"], row["trainable_parameters"], row["status"]) for row in rows}
    assert found == {("toy_shift", 1, "finished")} and len(rows) == 2


def test_these_tests_take_a_method_from_its_file_alone(toy, tmp_path):
    test_the_interface("toy_shift")
    test_parameter_counts_are_right("toy_shift")
    test_every_own_parameter_moves_and_nothing_else_and_training_goes_on("toy_shift", tmp_path)
    test_gang_and_packed_rows_equal_single_runs("toy_shift")
    test_cached_decoding_equals_teacher_forcing("toy_shift")
    test_what_is_written_of_a_run_is_enough_to_answer("toy_shift", tmp_path)


def test_no_method_is_named_outside_its_file():
    root = Path(methods.__file__).parents[1]
    names = [re.escape(word) for name in ALL for word in (name, methods.get(name).__name__)]
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    # Names of PEFT's, of stored adapters, and of a package of google-research. Programs that time
    # or study certain methods stand outside of this folder.
    formats = ("peft.py", "peft_configs.py", "adapters.py", "prompt.py", "prompt_files.py")
    allowed = {root / "checkpoints" / "prompts" / name for name in formats}
    allowed |= {root / "inference" / "weight_changes.py", root / "config" / "messages.py"}
    allowed |= {root / "api" / "prompt_length.py"}  # of one method alone
    # Names of google-research's package, and those that have a counterpart under T5X.
    allowed |= {*(root / "config" / "t5x").glob("*.py"), root / "integrations" / "t5x.py"}
    # Examples in the help of commands.
    allowed |= {root / "cli" / name for name in ("main.py", "train.py")}
    allowed |= {root / "__init__.py"}  # the public names, which a test compares with the files
    wrong = []
    for path in root.rglob("*.py"):
        if path.parent.name == "methods" or path in allowed:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{path.name}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_unknown_method():
    with pytest.raises(ValueError, match="unknown method 'lara'.*prompt_tuning"):
        methods.get("lara")


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("prompt_tuning", {"length": 0}, "PROMPT_LENGTH is 0"),
        ("prompt_tuning", {"place": "middle"}, "place is 'middle'.*'after_first'"),
        ("prompt_tuning", {"sees_prompt": "some"}, "sees_prompt is 'some'.*before"),
        ("input_bias", {"length": 1.5}, "InputBias.length is 1.5"),
        ("prefix_tuning", {"hidden": -1}, "PrefixTuning.hidden is -1"),
        ("prefix_tuning", {"sites": ("middle",)}, "sites is .'middle',.*cross"),
        ("p_tuning", {"hidden": 0}, "PTuning.hidden is 0"),
        ("p_tuning", {"encoder": "gru"}, "PTuning.encoder is 'gru'; use one of lstm, mlp"),
        ("p_tuning", {"template": "{inputs}"}, "template is '{inputs}'; it has no rows"),
        ("multitask_prompt_tuning", {"rank": 0}, "MultitaskPromptTuning.rank is 0"),
        (
            "multitask_prompt_tuning",
            {"task_rate": 0},
            "task_rate is 0; it must be a number above 0",
        ),
        ("multitask_prompt_tuning", {"distillation": 0}, "leave the teachers out"),
        ("lora", {"rank": 0}, "LoRA.rank is 0"),
        ("lora", {"alpha": 0}, "LoRA.alpha is 0"),
        ("lora", {"kernels": ()}, "LoRA.kernels is .*query"),
    ],
)
def test_bad_hyper_parameters(name, settings, message):
    with pytest.raises(ValueError, match=message):
        methods.get(name)(**settings)


def test_full_fine_tuning_refuses_int8():
    from spjax.models import quantization

    with pytest.raises(ValueError, match="base is in int8"):
        small("full_fine_tuning").init(jax.random.key(0), quantization.quantize_tree(BASE))


def test_a_gang_is_one_table():
    own = [alone("prompt_tuning", 3, seed)[1] for seed in (0, 1)]
    weights, injection = apply_gang([small("prompt_tuning")], [stacked(*own)], BASE)
    assert weights is BASE and injection.offsets_NS.tolist() == [[0], [3]]
    np.testing.assert_array_equal(injection.prompt_RD[3:], own[1]["prompt"])


def test_a_target_stage_starts_from_the_average_of_its_source(tmp_path):
    source = small("multitask_prompt_tuning").clone(tasks=3)
    tensors = source.collapse(moved(source, 0), BASE)
    assert tensors["prompt"].shape == (3, 3, 16)
    file = tmp_path / "tuned.safetensors"
    array_files.write_safetensors(file, jax.tree.map(np.asarray, tensors), {})
    target = small("multitask_prompt_tuning", source=str(tmp_path)).clone(tasks=2)
    found = target.collapse(init_trainable(target, BASE, 0), BASE)
    close(found["u"], np.stack([tensors["u"].mean(0)] * 2))
    close(found["prompt"][1], tensors["shared"] * (tensors["u"].mean(0) @ tensors["v"].mean(0)))
    longer = small("multitask_prompt_tuning", source=str(file), length=4)
    with pytest.raises(ValueError, match="have shapes .*length, rank and model must be those"):
        init_trainable(longer, BASE, 0)
    missing = small("multitask_prompt_tuning", source=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="cannot read the factors of a source run"):
        init_trainable(missing, BASE, 0)


def test_the_rate_of_the_factors_is_a_multiple():
    # Adafactor's first step has the size of the rate, whatever the gradient.
    method = small("multitask_prompt_tuning", task_rate=3.0, initializer=Uniform())
    state, _ = updated(method, first_state(method))
    before = method.collapse(init_trainable(method, BASE, 0), BASE)
    after = method.collapse(jax.tree.map(lambda x: x[0], state.trainable), BASE)
    size = {k: np.sqrt(np.mean((after[k] - before[k]) ** 2)) for k in ("shared", "u", "v")}
    assert size["u"] / size["shared"] == pytest.approx(3, rel=1e-3)
    assert size["v"] / size["shared"] == pytest.approx(3, rel=1e-3)


def test_lora_is_told_apart_by_its_kernels_and_scale():
    default, alike, other = (
        LoRA(),
        LoRA(kernels=["query", "value"]),
        LoRA(kernels=["wo"], rslora=True),
    )
    assert (default.variant, alike.variant, other.variant) == ("", "", "wo rslora")
