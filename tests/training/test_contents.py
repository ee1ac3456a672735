"""A run is another one where the content behind a path that it reads has changed."""

import dataclasses
import itertools
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from spjax import config
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.cli import main
from spjax.methods.initializers import FromFile, Uniform
from spjax.methods.multitask_prompt_tuning import MultitaskPromptTuning
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

RUN = Run(
    "pocket_cb", "pocket_50k", PromptTuning(3), Adafactor(), steps=1, eval_period=1, eval_examples=8
)
_TIMES = itertools.count(10**18, 10**9)


def rows(seed):
    return np.random.default_rng(seed).normal(size=(3, 32)).astype(np.float32)


def write_prompt(path, seed):
    prompt_files.write(path, Prompt.from_array(rows(seed)))


def write_factors(path, seed):
    array_files.write_safetensors(path, {"shared": rows(seed)}, {})


def write_weights(path, seed):
    array_files.write_safetensors(path, {"a": rows(seed)}, {})
    os.utime(path, ns=(0, next(_TIMES)))  # digests are kept by time; a clock's tick is too long


def starting(path):
    return dataclasses.replace(RUN, method=PromptTuning(3, FromFile(str(path))))


def from_source(path):
    return dataclasses.replace(RUN, method=MultitaskPromptTuning(3, source=str(path)))


def with_teachers(path):
    method = MultitaskPromptTuning(3, teachers=(str(path),))
    return dataclasses.replace(RUN, method=method)


def over(path):
    return dataclasses.replace(RUN, checkpoint=str(path))


@pytest.mark.parametrize(
    "make, write",
    [
        (starting, write_prompt),
        (with_teachers, write_prompt),
        (from_source, write_factors),
        (over, write_weights),
    ],
)
def test_the_key_is_of_the_content(make, write, tmp_path):
    path = tmp_path / "a.safetensors"
    absent = make(path)
    assert absent.contents == ()
    write(path, 0)
    first = make(path)
    write(path, 1)
    second = make(path)
    write(path, 0)
    again = make(path)
    keys = [config.run_key(run) for run in (absent, first, second, again)]
    assert keys[1] == keys[3] and len(set(keys)) == 3
    # What is written down remembers the content that it was configured for.
    (tmp_path / "config.gin").write_text(config.config_str(first))
    write(path, 1)
    stored = config.load_stored("Run", tmp_path / "config.gin")
    assert stored == first and stored.contents == first.contents
    with pytest.raises(ValueError, match="a.safetensors has changed since the run was configured"):
        stored.check_contents()
    second.check_contents()


@pytest.mark.parametrize("most", [2**31, 0])
def test_a_folder_of_weights_is_read_to_its_end(most, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_MOST_HASHED", most)
    weights._files_digest.cache_clear()
    (tmp_path / "config.json").write_text("{}")
    content = bytearray(2**20)
    digests = set()
    for change in (None, 2**20 - 1, 0):
        if change is not None:
            content[change] += 1
        (tmp_path / "model.safetensors").write_bytes(content)
        os.utime(tmp_path / "model.safetensors", ns=(0, next(_TIMES)))
        digests.add(weights.fingerprint("pocket_50k", str(tmp_path)))
    assert len(digests) == 3 and "" not in digests


def test_a_run_without_paths_has_the_key_that_it_had():
    assert "contents" not in config.canonical(RUN) and "contents" not in config.config_str(RUN)


@pytest.mark.slow
def test_train_says_what_has_changed(tmp_path, capsys):
    root = Path(main.__file__).parents[2]
    names = ("models/pocket", "runs/pocket", "methods/prompt_tuning")
    flags = [f"--gin_file={root}/gin_configs/{name}.gin" for name in names]
    path, folder = tmp_path / "start.npy", tmp_path / "run"
    for text in (
        "MODEL_SIZE=pocket_50k",
        "MIXTURE_OR_TASK_NAME=pocket_cb",
        "PROMPT_LENGTH=3",
        "TRAIN_STEPS=1",
        "EVAL_PERIOD=1",
        "Run.eval_examples=8",
        "INITIALIZER=@FromFile()",
        f"FromFile.path={path}",
        f"MODEL_DIR={folder}",
    ):
        flags.append(f"--gin.{text}")
    width = weights.config_of("pocket_50k").emb_dim
    array_files.write_npy(path, np.ones((3, width), np.float32))
    assert main.main(["train", *flags]) == 0
    capsys.readouterr()
    assert main.main(["train", *flags]) == 0 and "Nothing to do" in capsys.readouterr().out
    array_files.write_npy(path, np.zeros((3, width), np.float32))
    assert main.main(["train", *flags]) == 2
    assert f"since the content of {path} has changed" in capsys.readouterr().err
    assert main.main(["train", f"--gin_file={folder}/config.gin"]) == 2
    assert f"{path} has changed since the run was configured" in capsys.readouterr().err
    path.unlink()  # a finished run needs it no more
    assert main.main(["eval", str(folder)]) == 0


@pytest.mark.parametrize("format", prompt_files.FORMATS)
def test_a_start_is_read_in_every_format(format, tmp_path):
    prompt = Prompt.from_array(rows(0))
    prompt_files.write(tmp_path / "prompt", prompt, format)
    found = FromFile(str(tmp_path / "prompt"))(None, 3, np.zeros((1, 32), np.float32))
    np.testing.assert_array_equal(found, prompt.soft_tokens_PD)


def test_teachers_are_read_before_anything_is_traced(tmp_path):
    write_prompt(tmp_path / "a.npy", 0)
    method = MultitaskPromptTuning(3, initializer=Uniform(), teachers=(str(tmp_path / "a.npy"),))
    resolved = method.resolve((), lambda text: (), 1)
    other = method.resolve((), lambda text: (), 1)
    assert resolved == other and hash(resolved) == hash(other)
    (tmp_path / "a.npy").unlink()
    base = {"token_embedder": {"embedding": np.zeros((4, 32), np.float32)}}
    (_, soft), _ = jax.jit(resolved.init_with_output)(jax.random.key(0), base)
    np.testing.assert_array_equal(soft.teacher, rows(0))
    narrow = {"token_embedder": {"embedding": np.zeros((4, 16), np.float32)}}
    with pytest.raises(ValueError, match="has a width of 32, but the model has 16"):
        resolved.init(jax.random.key(0), narrow)
    with pytest.raises(ValueError, match="cannot read"):
        method.resolve((), lambda text: (), 1)
