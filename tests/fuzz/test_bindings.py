"""Every parameter of every class that gin knows, and every macro of our gin files, badly bound."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import numpy as np
import pytest
from harness import AMOUNT, SEED, command, judged, report, spread

from spjax import config, methods
from spjax.config import registry
from spjax.config.identity import parameters

ROOT = Path(__file__).parents[2]
HUGE = "1" + "0" * 20
BAD = {
    int: ["'x'", "None", "[1]", "True", "0.5", "-1", "0", HUGE, "1e999", "{}", "@Uniform()"],
    float: ["'x'", "None", "[0.1]", "True", "-1", "0", "1e30", "1e999", "-1e999", "'nan'", "{}"],
    bool: ["2", "'x'", "None", "[]", "-1", "''"],
    str: ["3", "None", "[]", "True", "''", "'\\x00'", "'é'", "{}", "'bogus'", "0.5"],
    object: ["-1", "'x'", "None", "{}", "True", "[[]]", "1e999", "@Run", "@Uniform()", "('',)"],
}
RUN = """
Run.task = "pocket_cb"
Run.model = "pocket_50k"
Run.optimizer = @Adafactor()
Adafactor.learning_rate = 0.3
Run.method = @PromptTuning()
PromptTuning.initializer = @Uniform()
PromptTuning.length = 3
"""
# What each class needs to be built beside `RUN`; methods need nothing.
BUILT = {
    "Run": "",
    "Adafactor": "",
    "PromptTuning": "",
    "Uniform": "",
    "AdamW": "Run.optimizer = @AdamW()\nAdamW.learning_rate = 0.3",
    "ClassLabels": "PromptTuning.initializer = @ClassLabels()",
    "SampledVocabulary": "PromptTuning.initializer = @SampledVocabulary()",
    "Text": "PromptTuning.initializer = @Text()\nText.text = 'a word'",
    "FromFile": "PromptTuning.initializer = @FromFile()\nFromFile.path = '{prompt.npy}'",
    "Waywardness": "Run.waywardness = @Waywardness()\nWaywardness.text = 'a word'",
    "FileTask": "Run.task = @FileTask()\nFileTask.path = '{rows.jsonl}'\n"
    "FileTask.target = '{target}'",
}
# Target is computed; the last three are executors.
NOT_OF_A_RUN = ("Arm", "Study", "Search", "Pretrain", "Target", "Local", "Ray", "Slurm")
ZERO = {
    "patience",
    "checkpoint_period",
    "log_period",
    "num_beams",
    "seed",
    "eval_examples",
    "eval_seed",
    "input_length",
    "target_length",
    "population",
    "hidden",
    "tasks",
    "gang_width",
    "steps_before",
    "warmup_steps",
    "steps_per_decay",
    "span_steps",
    "long_steps",
    "documents",
    "lesson_documents",
    "adaptation_steps",
}
# Further (parameter, value) that may be accepted.
MAY = {
    ("dropout_rate", "0"),
    ("z_loss", "0"),
    ("label_smoothing", "0"),
    ("low", "-1"),
    ("low", "0"),
    ("loss_normalizing_factor", "None"),
    ("decay_offset", "-1"),
    ("decay_offset", "0"),
    ("weight_decay_rate", "0"),
    ("weight_decay", "0"),
    ("waywardness", "None"),
    ("high", "0"),
    ("labels", "[]"),
    ("metrics", "{}"),
    ("name", "'é'"),
    ("name", "'bogus'"),
    ("name", "''"),
    ("validation", "''"),
    ("test", "''"),
    ("source", "''"),
    ("text", "'é'"),
    ("text", "'bogus'"),
    ("text", "'\\x00'"),
    ("b1", "0"),
    ("b2", "0"),
    ("gamma", "0"),
    ("checkpoint", "''"),
    ("vocabulary", "''"),
    ("template", "''"),
    ("corpus", "''"),
    ("teachers", "{}"),
    ("sha256", "''"),
    ("decay_fraction", "0"),
    ("min_dim_size_to_factor", "0"),
}
# May be as large as you like: all there is, or never.
HUGE_MAY = {
    "eval_batch_size",
    "population",
    "patience",
    "checkpoint_period",
    "eval_examples",
    "min_dim_size_to_factor",
    "eval_period",
    "decay_offset",
    "steps_before",
}


def fields():
    """(class name, parameter, type) of everything that can be bound for a run."""
    config.register_all()
    found = []
    for name, target in registry.REGISTERED.items():
        if not dataclasses.is_dataclass(target) or name in NOT_OF_A_RUN:
            continue
        # Methods in a folder of another test's stay known to the process.
        if not Path(inspect.getfile(target)).is_relative_to(ROOT / "spjax"):
            continue
        hints = typing.get_type_hints(target)
        found += [(name, x, hints.get(x, object)) for x in sorted(parameters(target))]
    assert {name for name, *_ in found} >= {*BUILT}  # of this clone, not of another spjax
    return found


def text_of(name, valid):
    """A gin file with which this class is built and the run is accepted."""
    method = name in {methods.get(x).__name__ for x in methods.names()} - {"PromptTuning"}
    text = BUILT.get(name, f"Run.method = @{name}()" if method else None)
    assert text is not None, f"say in BUILT how a run gets to {name}"
    lines = RUN.splitlines()
    if method:
        lines = [line for line in lines if "PromptTuning" not in line]
    bound = [line.partition(" = ")[0] for line in text.splitlines()]
    lines = [line for line in lines if line.partition(" = ")[0] not in bound]
    for key, path in valid.items():
        text = text.replace(f"{{{key}}}", str(path))
    if "Run.optimizer" in bound:
        lines = [line for line in lines if not line.startswith("Adafactor")]
    return "\n".join([*lines, text, ""])


def kind_of(hint):
    return hint if hint in BAD else object


def may(parameter, hint, value):
    if hint is int and value == "0" and parameter in ZERO or (parameter, value) in MAY:
        return True
    if hint is str and value in ("3", "None", "True", "0.5"):
        return True  # a bare text on the command line is what was written
    if hint is float and value == "1e30":
        return parameter != "learning_rate"
    return value == HUGE and parameter in HUGE_MAY


def train(text, *bindings):
    Path("base.gin").write_text(text)
    return command(["train", "--gin_file=base.gin", "--gin.MODEL_DIR=run", *bindings])


def test_every_class_can_be_built(valid):
    names = dict.fromkeys(name for name, _, _ in fields())
    report([(name, judged(train(text_of(name, valid)), True)) for name in names])


def test_every_parameter_with_every_wrong_value(valid):
    rng = np.random.default_rng(SEED)
    cases = [
        (name, parameter, hint, value)
        for name, parameter, hint in fields()
        for value in BAD[kind_of(hint)]
    ]
    outcomes = []
    for name, parameter, hint, value in spread(cases, rng, AMOUNT * 3):
        binding = f"--gin.{name}.{parameter}={value}"
        outcome = train(text_of(name, valid), binding)
        outcomes.append((binding, judged(outcome, may(parameter, hint, value))))
    report(outcomes)


def macros():
    """(gin file, macro) of every file that ships."""
    paths = sorted((ROOT / "gin_configs").rglob("*.gin"))
    return [
        (path.relative_to(ROOT), name)
        for path in paths
        for name in re.findall(r"^([A-Z][A-Z_]+) = ", path.read_text(), re.M)
    ]


# Files that a run needs beside one of the folder.
BESIDE = {
    "models": ("runs/pocket", "methods/prompt_tuning"),
    "runs": ("models/pocket", "methods/prompt_tuning"),
    "methods": ("models/pocket", "runs/pocket"),
    "prompts": ("models/pocket", "runs/pocket", "methods/prompt_tuning"),
    "tasks": ("models/pocket", "runs/pocket", "methods/prompt_tuning"),
    "mesh": ("models/pocket", "runs/pocket", "methods/prompt_tuning"),
}
ANYTHING = [
    "",
    "-1",
    "'x'",
    "[]",
    "{}",
    "None",
    "0.5",
    HUGE,
    "1e999",
    "@Run",
    "@",
    "%X",
    "(",
    "\\",
    "'",
    "nan",
    "True",
    "2025-01-15",
    "~/x",
    "'é'",
    "[1, 'x']",
    "a b",
]
NUMBERS = {
    "SEED",
    "TRAIN_STEPS",
    "BATCH_SIZE",
    "EVAL_PERIOD",
    "DROPOUT_RATE",
    "LEARNING_RATE",
    "PROMPT_LENGTH",
    "RANK",
    "NUM_PARTITIONS",
}


MACROS = {("DROPOUT_RATE", "0.5"), ("LEARNING_RATE", "0.5"), ("EVAL_PERIOD", HUGE)}


def may_macro(name, value):
    if name in ("CLASS_LABELS", "TASK_LABELS", "TEACHERS"):
        return value in ("[]", "[1, 'x']")
    if name in ("VALIDATION_FILE", "TEST_FILE", "SOURCE", "INITIAL_CHECKPOINT_PATH"):
        return value == ""
    if name == "WAYWARD_TEXT":
        # A bare text on the command line is what was written.
        return value in ("'x'", "'é'") or value != "" and value[0] not in "@%'\"([{"
    if name in NUMBERS:
        return (name, value) in MACROS
    if name == "WAYWARD_GAMMA":
        return value in ("0.5", HUGE)
    return False


def test_every_macro_with_every_wrong_value(valid):
    rng = np.random.default_rng(SEED)
    cases = [(path, name, value) for path, name in macros() for value in ANYTHING]
    outcomes = []
    for path, name, value in spread(cases, rng, AMOUNT * 2):
        files = [f"gin_configs/{other}.gin" for other in BESIDE[path.parts[1]]]
        argv = ["train", *(f"--gin_file={x}" for x in (*files, path)), "--gin.MODEL_DIR=run"]
        argv += ["--gin.MODEL_SIZE=pocket_50k"] if name != "MODEL_SIZE" else []
        argv += ["--gin.MIXTURE_OR_TASK_NAME=pocket_cb"] if path.parts[1] != "tasks" else []
        argv += [f"--gin.TASK_FILE={valid['rows.jsonl']}"] if path.parts[1] == "tasks" else []
        argv += [f"--gin.{name}={value}"]
        outcomes.append((argv[-1:] + argv[:5], judged(command(argv), may_macro(name, value))))
    report(outcomes)


GIN = [
    b"",
    b"\xff\xfe",
    b"import os\n",
    b"include 'nothing.gin'\n",
    b"include 'loop.gin'\n",
    b"Run.steps = \n",
    b"Run.steps = 1 +\n",
    b"Run.steps = @missing()\n",
    b"Run.step = 1\n",
    b"A = %B\nB = %A\nRun.steps = %A\n",
    b"from t5x import x\n",
    b"import spjax.nothing\n",
    b"X = " + b"[" * 5000,
    b"Run.task = '" + b"x" * 100_000 + b"'\n",
    b"Run.steps == 1\n",
    b"  Run.steps = 1\n",
    b"Run.steps = 1 Run.seed = 2\n",
    b"a/b/c/Run.steps = 3\n",
    b"Run.method = @Run()\n",
    b"Run.method = @Run\n",
    b"\0",
    b"Run.task = \xc3\xa9\n",
    b"@\n",
    b"run.steps = 1\n",
    b"steps = 1\n",
    b"Run.steps: 1\n",
    b"# nothing\n",
    b"Run = 3\n",
    b"import spjax.cli.main; x\n",
    b"Run.model = %gin.REQUIRED\n",
    b"\xef\xbb\xbfRun.seed = 1\n",
]


@pytest.mark.parametrize("name", ["train", "sweep", "pretrain", "tasks"])
def test_gin_files(name, valid):
    outcomes = []
    for text in GIN:
        Path("loop.gin").write_bytes(text)
        more = ["--gin.MODEL_DIR=run"] if name in ("train", "pretrain") else []
        outcomes.append((text[:60], judged(command([name, "--gin_file=loop.gin", *more]), False)))
    report(outcomes)


BINDINGS = [
    "",
    "=",
    "x",
    "x=",
    "=1",
    "Run.steps",
    "Run.steps=",
    "Run..steps=1",
    "Run.steps=1=2",
    ".=1",
    "Run.=1",
    "/=1",
    "a/Run.steps=1",
    "Run.stepz=1",
    "Ran.steps=1",
    "é=1",
    "Run.steps=(",
    "Run.steps='",
    "Run.steps=[" + "[" * 3000,
    "import=1",
    "@Run=1",
    "%a=1",
    "Run.steps=@Run()",
    "Run.steps=@by()",
    "Run.steps=%gin.REQUIRED",
    "Run=1",
    "run.steps=1",
    "Run.steps=lambda: 1",
    "Run.steps=__import__('os')",
    "Run.steps=1\nRun.seed=2",
]


def test_bindings_of_odd_form(valid):
    text = text_of("Run", valid)
    outcomes = []
    for binding in BINDINGS:
        for argument in (f"--gin.{binding}", f"--gin_bindings={binding}"):
            outcomes.append((argument[:80], judged(train(text, argument), False)))
    report(outcomes)


STUDIES = [
    "Study.arms = []",
    "Study.arms = 3",
    "Study.arms = [3]",
    "Study.arms = @prompts/Arm()",
    "Study.name = ''",
    "Study.name = '../x'",
    "Study.name = 3",
    "Study.name = '.'",
    "Study.name = '..'",
    "Study.name = None",
    "Study.figures = ['nothing']",
    "Study.figures = 3",
    "Study.figures = 'score_over_size'",
    "Study.figures = [3]",
    "Study.gang_width = -1",
    "Study.gang_width = 'x'",
    "Study.gang_width = 0.5",
    "Study.gang_width = None",
    "prompts/Arm.axes = {}",
    "prompts/Arm.axes = []",
    "prompts/Arm.axes = 3",
    "prompts/Arm.axes = {'MODEL_SIZE': []}",
    "prompts/Arm.axes = {'MODEL_SIZE': 'pocket_50k'}",
    "prompts/Arm.axes = {'MODEL_SIZE': 3}",
    "prompts/Arm.axes = {3: [1]}",
    "prompts/Arm.axes = {'': [1]}",
    "prompts/Arm.axes = {'NOTHING': [1]}",
    "prompts/Arm.axes = {'Run.steps': [1, 2]}",
    "prompts/Arm.bindings = {'Run.steps': 'x'}",
    "prompts/Arm.bindings = []",
    "prompts/Arm.bindings = {'X': 3}",
    "prompts/Arm.bindings = {3: 3}",
    "prompts/Arm.gin_files = []",
    "prompts/Arm.gin_files = 'x'",
    "prompts/Arm.gin_files = [3]",
    "prompts/Arm.gin_files = ['nothing.gin']",
    "prompts/Arm.name = 3",
    "prompts/Arm.name = ''",
    "prompts/Arm.name = None",
]


def test_studies(valid):
    usual = valid["study.gin"].read_text()
    outcomes = []
    for line in STUDIES:
        Path("study.gin").write_text(f"{usual}\n{line}\n")
        outcomes.append((line, judged(command(["sweep", "--gin_file=study.gin"]), False)))
    report(outcomes)


def test_pretraining(valid):
    rng = np.random.default_rng(SEED)
    config.register_all()
    hints = typing.get_type_hints(registry.REGISTERED["Pretrain"])
    cases = [(x, hint, value) for x, hint in hints.items() for value in BAD[kind_of(hint)]]
    outcomes = []
    for parameter, hint, value in spread(cases, rng, AMOUNT):
        argv = ["pretrain", "--gin_file=experiments/pocket/pretrain.gin", "--gin.MODEL_DIR=run"]
        argv += ["--gin.MODEL_SIZE=pocket_50k", f"--gin.Pretrain.{parameter}={value}"]
        fine = may(parameter, hint, value) or parameter == "steps_before" and hint is int
        outcomes.append((argv[-1], judged(command(argv), fine)))
    report(outcomes)
