"""Gin in, dataclasses out, and back."""

import re
from pathlib import Path

import pytest

from spjax import config, methods
from spjax.methods.initializers import ClassLabels, Uniform
from spjax.methods.prompt_tuning import PromptTuning
from tests.config.small_run import FILES, NEEDED, ROOT

pytestmark = pytest.mark.usefixtures("in_clone")


def load(*bindings, files=FILES):
    return config.load("Run", files, [*NEEDED, *bindings])


def gin_file(folder, text):
    path = folder / "some.gin"
    path.write_text(text)
    return path


def test_macros_reach_the_run():
    run = load("PROMPT_LENGTH = 7", "TRAIN_STEPS = 3", "LEARNING_RATE = 0.5", "SEED = 9")
    assert (run.model, run.task, run.steps, run.seed) == ("pocket_50k", "pocket_cb", 3, 9)
    assert run.method.length == 7 and run.optimizer.learning_rate == 0.5


def test_every_part_of_gin_configs_builds_a_run_that_reads_back(tmp_path):
    """Each method, prompt, model and run file in turn, beside the default ones."""
    folder = ROOT / "gin_configs"
    files = sorted(folder.glob("**/*.gin"))
    rooms = {"models", "runs", "methods", "prompts", "mesh", "tasks"}
    assert {path.parent.name for path in files} == rooms
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"input": "{i}", "target": "a"}}\n' for i in range(100)))
    for path in files:
        if path == folder / "tasks" / "seqio.gin":  # tests/data/token_cache/test_seqio_source.py
            continue
        beside = path == folder / "runs" / "patient.gin"  # goes with a file of its folder
        chosen = [name for name in FILES if beside or Path(name).parent.name != path.parent.name]
        needed = []
        if path.name.startswith("t5_1_1"):
            one = path.name == "t5_1_1.gin"
            needed += (
                ["INITIAL_CHECKPOINT_PATH = x.safetensors"]
                if one
                else ["CHECKPOINTS = {'default': 'x.safetensors'}"]
            )
        if path.name == "prompt_finetune.gin":
            values = ("TRAIN_STEPS", "BATCH_SIZE", "EVAL_PERIOD", "DROPOUT_RATE", "LEARNING_RATE")
            needed += [f"{name} = {0 if name == 'DROPOUT_RATE' else 1}" for name in values]
        if path == folder / "runs" / "capacity.gin":
            needed += ["TRAIN_STEPS = 40", "STEPS_PER_STAIR = 2", "LEARNING_RATE = 0.1"]
        if path == folder / "prompts" / "from_file.gin":
            needed += ["PROMPT_FILE = 'prompt.npy'"]
        if path.parent.name == "tasks":
            needed += [f"TASK_FILE = '{data}'", "MIXTURE_OR_TASK_NAME = @FileTask()"]
        run = load(*needed, files=[*sorted(chosen, key=FILES.index), path])
        written = gin_file(tmp_path, config.config_str(run))
        again = config.load("Run", [written])
        assert again == run and config.run_key(again) == config.run_key(run), path


def test_every_method_has_a_gin_file():
    assert {path.stem for path in (ROOT / "gin_configs/methods").glob("*.gin")} == set(
        methods.names()
    )


def test_presets_differ_where_paper_and_code_do():
    paper = load(files=[FILES[0], "gin_configs/runs/paper.gin", FILES[2]])
    code = load(files=[FILES[0], "gin_configs/runs/released_code.gin", FILES[2]])
    for run, *values in ((paper, 30_000, 32, 0.0, 0), (code, 50_000, 128, 1e-4, -1_100_000)):
        assert [run.steps, run.batch_size, run.z_loss, run.optimizer.decay_offset] == values
        assert run.optimizer.learning_rate == 0.3 and run.optimizer.weight_decay_rate == 1e-5


def test_labels_and_initializers():
    assert load("ClassLabels.labels = ['a', 'b']").method.initializer == ClassLabels(["a", "b"])
    assert load("INITIALIZER = @Uniform()").method.initializer == Uniform()


def test_feature_lengths():
    run = load('TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 8}')
    assert (run.input_length, run.target_length) == (64, 8)


def test_by_looks_values_up(tmp_path):
    text = "Run.steps = @s/by()\ns/by.key = %MODEL_SIZE\ns/by.table = {'pocket_50k': 12}\n"
    files = [*FILES, gin_file(tmp_path, text + "TRAIN_STEPS = 1")]
    with pytest.raises(ValueError, match="nothing uses the binding 'TRAIN_STEPS'"):
        load(files=files)
    assert config.by("x", {"default": 3}) == 3
    with pytest.raises(ValueError, match="no entry for 'x', only 'y'; add one"):
        config.by("x", {"y": 3})


def test_the_key_depends_on_values_and_not_on_how_they_are_written():
    key = config.run_key(load())
    assert config.run_key(load("SEED = 0", "DROPOUT_RATE = 0")) == key
    assert len(key) == 12
    assert config.run_key(load("SEED = 1")) != key
    assert config.run_key(load("Uniform.low = 0.1", "INITIALIZER = @Uniform()")) != key


@pytest.mark.parametrize(
    "one, other",
    [
        ("DROPOUT_RATE = 0", "DROPOUT_RATE = 0.0"),
        ("LEARNING_RATE = 1", "LEARNING_RATE = 1.0"),
        ("ClassLabels.labels = []", "ClassLabels.labels = ()"),
        ("ClassLabels.labels = ['a', 'b']", "ClassLabels.labels = ('a', 'b')"),
    ],
)
def test_equal_keys_mean_equal_texts(one, other, tmp_path):
    first, second = load(one), load(other)
    assert config.run_key(first) == config.run_key(second)
    assert config.config_str(first) == config.config_str(second)
    again = config.load("Run", [gin_file(tmp_path, config.config_str(second))])
    assert config.run_key(again) == config.run_key(first)


def test_what_methods_learned_later_leaves_keys_of_older_runs_alone(tmp_path):
    names = {"class", "length", "initializer", "place"}
    assert set(config.canonical(PromptTuning(length=3))) == names
    blind = PromptTuning(length=3, sees_text=False)
    assert set(config.canonical(blind)) == {*names, "sees_text"}


def test_canonical_refuses_objects():
    with pytest.raises(TypeError, match="cannot be part of a configuration"):
        config.canonical(object())


def test_bare_words_are_strings():
    assert config.split_binding("A=pocket_50k") == ("A", "'pocket_50k'")
    assert config.split_binding("A = /x/y.z") == ("A", "'/x/y.z'")
    url = "hf://datasets/o/n:c@v1#test:n9"
    assert config.split_binding(f"A={url}") == ("A", repr(url))
    assert config.split_binding("A = 'x'") == ("A", "'x'")
    assert config.split_binding("A = 1e-3") == ("A", "1e-3")
    assert config.split_binding("A = @Uniform()") == ("A", "@Uniform()")


@pytest.mark.parametrize(
    "binding, message",
    [
        ("MIXTURE_OR_TASK_MODULE = 'm'", "'; gin_configs/tasks/seqio.gin would use it. In use"),
        ("BATCH_SIZ = 1", "nothing uses the binding 'BATCH_SIZ'; did you mean 'BATCH_SIZE'"),
        ("Run.batch_siz = 1", "Run has no parameter 'batch_siz'; did you mean 'batch_size'"),
        ("PromptTuning.parent = 1", "'PromptTuning' has denylisted kwarg 'parent'"),
        ("Runn.seed = 1", "unknown name 'Runn'; did you mean 'Run'"),
        ("Run.method = @Promt()", "unknown name 'Promt'.* Known: Adafactor"),
        ("SEED = %SED", "macro SED has no value; give one with --gin.SED="),
        ("SEED = %gin.REQUIRED", "SEED has no value; give one with --gin.SEED="),
        ("MIXTURE_OR_TASK_NAME = cb", "unknown task 'cb'"),
        ("MIXTURE_OR_TASK_NAME", "binding 'MIXTURE_OR_TASK_NAME' has no value"),
        ("SEED = [", r"the value '\[' of SEED is neither a Python literal nor"),
        ("TASK_FEATURE_LENGTHS = {'inputs': 3}", "no entry for 'targets'"),
    ],
)
def test_bad_bindings(binding, message):
    with pytest.raises(ValueError, match=message):
        load(binding)


def test_a_misspelt_macro_is_shown_where_the_value_is_missing():
    with pytest.raises(ValueError, match="macro MODEL_SIZE has no value.*meant by 'MODEL_SIZ'"):
        config.load("Run", FILES, [x.replace("MODEL_SIZE", "MODEL_SIZ") for x in NEEDED])
    with pytest.raises(ValueError, match=r"macro MODEL_SIZE has no value; .*=\.\.\.$"):
        config.load("Run", FILES, [x.replace("MODEL_SIZE", "MODEL_DIR") for x in NEEDED])


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"'absent.gin' was not found in [^,]*--gin_search_paths"):
        load(files=["absent.gin"])
    with pytest.raises(ValueError, match=r"needs a value for 'method' and 'optimizer'"):
        text = "Run.model = %MODEL_SIZE\nRun.task = %MIXTURE_OR_TASK_NAME"
        load(files=[gin_file(tmp_path, text)])
    with pytest.raises(ValueError, match="; give --gin_file=gin_configs/runs/.*") as raised:
        load(files=["gin_configs/models/pocket.gin"])
    files = re.findall(r"--gin_file=(\S+gin)", str(raised.value))
    bindings = re.findall(r"--gin.(MIXTURE\w+=\w+)", str(raised.value))
    assert load(*bindings, files=["gin_configs/models/pocket.gin", *files])
    with pytest.raises(ValueError, match=r"unknown name 'Rum'(.|\n)*some.gin"):
        load(files=[gin_file(tmp_path, "Rum.seed = 3")])
    with pytest.raises(ValueError, match="some.gin"):
        load(files=[gin_file(tmp_path, "Run.seed = = 3")])


def test_search_paths_come_first(tmp_path):
    gin_file(tmp_path, "SEED = 4")
    assert config.load("Run", [*FILES, "some.gin"], NEEDED, [tmp_path]).seed == 4


def test_search_paths_keep_their_order(tmp_path, monkeypatch):
    """Also where one of them is the working directory, which is searched anyway."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        gin_file(folder, "SEED = 4")
    monkeypatch.chdir(second)
    for paths in ([first, second], [second, first], [second, second, first], [".", first]):
        wanted = Path(paths[0]).resolve() / "some.gin"
        assert config.find_file("some.gin", paths).resolve() == wanted


def test_the_folder_is_no_part_of_the_run():
    run, folder = config.load_with_folder("Run", FILES, [*NEEDED, "MODEL_DIR = /tmp/x"])
    assert folder == "/tmp/x" and config.run_key(run) == config.run_key(load())
