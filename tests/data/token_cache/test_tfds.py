"""Every kind of TFDS task, from folders that TFDS's own builders wrote to scores. No network."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.cli import main
from spjax.data.tasks import registry, templates
from spjax.data.tasks.info import TaskInfo
from spjax.data.token_cache import cache
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import get_size
from spjax.models.t5 import init_weights
from spjax.training import loop
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run
from spjax.vocabularies import vocabulary
from tests.data.token_cache import tfds_folders

pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # every task's folder is written and read by TensorFlow

LENGTHS = {"inputs": 16, "targets": 8}  # of all tasks alike, so that they share compiled programs
TFDS = tuple(name for name in registry.names() if registry.get(name).source.startswith("tfds:"))


def _kinds() -> tuple[str, ...]:
    """A task of each dataset, format and choice of splits.

    The others differ in the name of the task in front of the text, the version of GLUE or the part
    of MRQA. Some of these, and variants, follow.
    """
    found = {}
    for name in TFDS:
        info = registry.get(name)
        family = info.source.partition("/")[0]
        found.setdefault((family, info.format, info.splits, info.source_splits), name)
    return (*found.values(), "super_glue_boolq_v102", "glue_cola_v200")


KINDS = _kinds()
VARIANTS = ("taskless_super_glue_rte_v102:halves", "taskless_super_glue_cb_v102:sentinel:n3")


def _unlike(names: tuple[str, ...]) -> tuple[str, ...]:
    """The first of those that are told apart by their labels alone."""
    found = {}
    for name in names:
        info = registry.get(name)
        parts = (info.format.template, info.metrics, info.postprocess)
        found.setdefault((*parts, info.splits, info.format.rename), name)
    return tuple(found.values())


TRAINED = (*_unlike(tuple(n for n in KINDS if "train" in registry.get(n).splits)), *VARIANTS)
UNTRAINED = _unlike(tuple(n for n in KINDS if "train" not in registry.get(n).splits))


@pytest.fixture(scope="module", autouse=True)
def folders(shared_cache: Path) -> Iterator[Path]:
    """Prepared folders of all datasets, and token caches of `KINDS`, once for all processes.

    And `told.json` beside them: what `PROGRAM` is told without them, by the same start of
    TensorFlow.
    """
    folder, empty = shared_cache.parent / "tfds", shared_cache.parent / "empty"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        with open(shared_cache.parent / "tfds.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                empty.mkdir(exist_ok=True)
                unfinished = f"{folder}.unfinished"
                path = {"TFDS_DATA_DIR": str(empty), "PYTHONPATH": os.pathsep.join(sys.path)}
                done = subprocess.run(
                    [sys.executable, "-c", PROGRAM, unfinished, *UNPREPARED],
                    capture_output=True,
                    text=True,
                    cwd=empty,
                    env={**os.environ, **path},
                )
                assert done.returncode == 0, done.stderr[-3000:]
                (folder.parent / "told.json").write_text(done.stdout.splitlines()[-1])
                Path(unfinished).rename(folder)
        cache.ensure((*KINDS, *VARIANTS), LENGTHS)
        yield folder


@pytest.fixture(scope="module")
def t5_like(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model with the rows of T5's vocabulary, as small as models get."""
    config = dataclasses.replace(get_size("pocket_50k"), vocab_size=32_128)
    path = tmp_path_factory.mktemp("weights") / "t5_like.safetensors"
    weights.save(path, init_weights(config, jax.random.key(0)), {}, dtype="float32")
    return str(path)


def source_split(info: TaskInfo, split: str) -> str:
    return dict(info.source_splits).get(split, split)


def expected(info: TaskInfo, split: str) -> list[dict[str, Any]]:
    """Returns the texts that the template makes of the records that were written."""
    records = tfds_folders.datasets()[info.source.removeprefix("tfds:")]
    prefix = f"{info.format.task_name} " if info.with_task_name else ""
    made = [
        example
        for record in records[source_split(info, split)]
        for example in templates.TEMPLATES[info.format.template](
            record, labels=info.labels, features=info.format.features, training=split == "train"
        )
    ]
    return [
        {"inputs_text": prefix + e.pop("inputs"), "targets_text": e.pop("targets")} | e
        for e in json.loads(json.dumps(made))
    ]


def in_order(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(examples, key=lambda example: json.dumps(example, sort_keys=True))


@pytest.mark.parametrize("name", TFDS)
def test_the_dataset_has_the_splits_of_the_row(name: str, folders: Path) -> None:
    info = registry.get(name)
    dataset, _, version = info.source.removeprefix("tfds:").partition(":")
    facts = json.loads((folders / dataset / version / "dataset_info.json").read_text())
    found = {split["name"] for split in facts["splits"]}
    assert {source_split(info, split) for split in info.splits} <= found
    assert info.version == version and len(info.sizes) == len(info.splits)


@pytest.mark.parametrize("name", KINDS)
def test_cache_holds_what_the_template_makes_of_the_records(name: str) -> None:
    info, words = registry.get(name), vocabulary.load_vocabulary("t5")
    for split in info.splits:
        found = cache.load(name, split, LENGTHS)
        assert in_order(found.examples) == in_order(expected(info, split))
        for number, example in enumerate(found.examples):
            ids = words.encode(example["inputs_text"])[: LENGTHS["inputs"] - 1]
            assert found.inputs[number].tolist() == [*ids, 1]


def test_halves_share_the_validation_split() -> None:
    plain, halved = (f"taskless_super_glue_rte_v102{variant}" for variant in ("", ":halves"))
    whole = cache.load(plain, "validation", LENGTHS).examples
    parts = [cache.load(halved, split, LENGTHS).examples for split in ("validation", "test")]
    assert [len(part) for part in parts] == [3, 3]
    assert in_order(parts[0] + parts[1]) == in_order(whole)


def test_sentinel_begins_the_target() -> None:
    name = "taskless_super_glue_cb_v102:sentinel"
    targets = cache.load(f"{name}:n3", "train", LENGTHS).targets
    assert [row[0] for row in targets] == [vocabulary.load_vocabulary("t5").size - 1] * 3


@pytest.fixture
def run_of(t5_like: str) -> Any:
    def make(task: str) -> Run:
        return Run(
            task=task,
            model="auto",
            method=PromptTuning(length=2, initializer=Uniform()),
            optimizer=Adafactor(0.3),
            checkpoint=t5_like,
            steps=3,
            eval_period=3,
            batch_size=4,
            eval_batch_size=8,
            input_length=LENGTHS["inputs"],
            target_length=LENGTHS["targets"],
        )

    return make


@pytest.mark.parametrize("name", TRAINED)
def test_train_evaluate_predict(name: str, run_of: Any, tmp_path: Path, capsys: Any) -> None:
    info = registry.get(name)
    (result,) = loop.train([run_of(name)], [tmp_path])
    assert result["status"] == "finished" and result["best_step"] == 3
    scores = result["test" if "test" in info.labelled else "validation"]
    least = -100 if any("corrcoef" in name for name in scores) else 0
    assert all(least <= value <= 100 for value in scores.values()) and "score" in scores
    assert len(answers(name, info.splits[-1], tmp_path / "prompt.npy", run_of(name), capsys)) >= 3


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_prompt_of_another_task_answers_it(
    name: str, run_of: Any, tmp_path: Path, capsys: Any
) -> None:
    info, run = registry.get(name), run_of("taskless_super_glue_rte_v102")
    rows = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    prompt = prompt_files.write(tmp_path / "prompt.npy", Prompt.from_array(rows, {"model": "auto"}))
    for split in info.labelled:
        args = ["--task", name, "--split", split, *shape(run)]
        assert main.main(["eval", "--prompt", str(prompt), *args]) == 0
        assert "score" in json.loads(capsys.readouterr().out)
    assert len(answers(name, info.splits[-1], prompt, run, capsys)) >= 3


def shape(run: Run) -> list[str]:
    lengths = [f"--{name[:-1]}_length={length}" for name, length in LENGTHS.items()]
    return ["--model=auto", f"--checkpoint={run.checkpoint}", "--vocabulary=t5", *lengths]


def answers(name: str, split: str, prompt: Path, run: Run, capsys: Any) -> list[dict[str, Any]]:
    """Returns the lines that `spjax predict` writes for the inputs of a split."""
    examples = cache.load(name, split, LENGTHS).examples
    lines = [json.dumps({"inputs": example["inputs_text"]}) for example in examples]
    path = prompt.parent / "inputs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert main.main(["predict", "--prompt", str(prompt), *shape(run), str(path)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(examples)
    return found


UNPREPARED = ("taskless_super_glue_boolq_v102", "samsum_v100", "xsum_v110", "glue_cola_v002")
PROGRAM = """
import json, socket, sys

def no_network(*args, **options):
    raise OSError("no network in tests")

from tests.data.token_cache import tfds_folders
folder, *names = sys.argv[1:]
tfds_folders.write(folder)
socket.getaddrinfo = no_network
from spjax.data.token_cache import build_cache, seqio_tasks
from spjax.data.tasks import registry, templates
told = {}
for task in names:
    wanted = {"task": task, "split": "validation", "lengths": {"inputs": 8, "targets": 2},
              "vocabulary": "t5", "key": {}, "folder": "never"}
    try:
        build_cache.build([wanted])
    except ValueError as error:
        told[task] = str(error)

def refuse(fields, **options):
    raise ValueError(f"record {fields['idx']}: no premise")

templates.TEMPLATES["glue"] = refuse
try:
    next(seqio_tasks.examples(registry.get("pocket_copa"), "validation", wanted["lengths"]))
except ValueError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(folders: Path) -> dict[str, str]:
    """Returns the message to a user who has no prepared folder, by task."""
    return json.loads((folders.parent / "told.json").read_text())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            "taskless_super_glue_boolq_v102",
            (
                r"no prepared super_glue/boolq:1.0.2 in .*empty.* "
                r"\(TFDS_DATA_DIR names the folder\) and cannot prepare it now "
                r"\(URLError: .*no network in tests.*; run `tfds build super_glue/boolq --data_dir="
            ),
        ),
        ("samsum_v100", "tfds build samsum --data_dir.* by hand go to `--manual_dir`: .*corpus.7z"),
        ("xsum_v110", "tfds build xsum --data_dir.*xsum-extracts-from-downloads.tar.gz"),
        ("glue_cola_v002", "copy glue/cola/1.0.0 from .* this one makes only version 2.0.0"),
        ("refused", "^pocket_copa_eval: record 0: no premise$"),
    ],
)
def test_what_is_missing_is_told(task: str, message: str, told: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=message):
        raise ValueError(told[task])
