"""Translations of the published gin files themselves, and of what spjax knows of them by name.

Needs `SPJAX_T5X_PATH` (see `t5x_shims`) with checkouts of T5X, Flaxformer and prompt-tuning, none
of which is imported.
"""

from pathlib import Path

import pytest

from spjax import config
from spjax.config.t5x import model_settings, published, translation
from spjax.config.t5x.draft import DIFFERS
from spjax.config.t5x.gin_files import Bindings
from tests.parity import t5x_shims

FOLDERS = t5x_shims.folders()
RUN = "prompt_tuning/configs/runs/prompt_finetune.gin"
EXTENDED = "prompt_tuning/configs/extended"
T5_BASE = "prompt_tuning/configs/models/t5_1_1_base_prompt.gin"
SIZES = "prompt_tuning/configs/models/sizes/base.gin"
FLAGS = {
    "MODEL_DIR": "'/tmp/run'",
    "MIXTURE_OR_TASK_NAME": "'taskless_glue_sst2_v200_examples'",
    "TASK_FEATURE_LENGTHS": "{'inputs': 512, 'targets': 8}",
    "INITIAL_CHECKPOINT_PATH": "'gs://bucket/checkpoint_1100000'",
    "TRAIN_STEPS": "1_150_000",
    "CLASS_LABELS": "['positive', 'negative']",
    "PROMPT_FILE": "'/tmp/prompt.npy'",
    "EMBEDDING_FILE": "'/tmp/embedding.npy'",
    "TASK_STRING": "'the published text has a backquote , which T5 lacks'",
    "CHECKPOINT_PATH": "'gs://bucket/checkpoint_1100000'",
    "EVAL_OUTPUT_DIR": "'/tmp/out'",
    "INFER_OUTPUT_DIR": "'/tmp/out'",
}

pytestmark = pytest.mark.skipif(
    not FOLDERS, reason=f"{t5x_shims.VARIABLE} names no folder with T5X's gin files"
)


def launches():
    """Files of a launch for each published file."""
    for name in published.FILES:
        if "/sizes/" in name or name.endswith(("t5_1_1_prompt.gin", "mt5_prompt.gin")):
            continue  # no model without the other of them
        if "/models/decoding/" in name or "/prompts/" in name:
            yield [T5_BASE, name, RUN]
        elif "/models/ia3" in name:
            yield [name, SIZES, f"{EXTENDED}/runs/ia3_finetune.gin"]
        elif "/models/" in name:
            yield [name, RUN]
        elif name.startswith("t5x/examples/"):
            yield [name, "t5x/configs/runs/finetune.gin"]
        elif "/runs/" in name and "ia3" not in name:
            more = ["prompt_tuning/configs/prompts/from_file.gin"] if name[:3] == "t5x" else []
            yield [T5_BASE, *more, name]


def translated(files, folders):
    mt5 = {"MIXTURE_OR_TASK_NAME": "'mt5_taskless_glue_sst2_v200_examples'"}
    flags = FLAGS | (mt5 if "mt5" in files[0] else {})
    return translation.translate(
        files, [f"{name}={value}" for name, value in flags.items()], folders
    )


@pytest.mark.parametrize("files", launches(), ids=" ".join)
def test_with_and_without_the_files(files, tmp_path, monkeypatch):
    own = translated(files, FOLDERS)
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))
    known = translated(files, [])
    for draft in (own, known):
        draft.rows = [row for row in draft.rows if row.kind == DIFFERS]
    assert not own.bindings.standing_in and known.bindings.standing_in
    assert (own.includes, own.settings, own.flags) == (known.includes, known.settings, known.flags)
    assert [row.binding for row in own.rows] == [row.binding for row in known.rows]
    if own.program == "train":
        path = tmp_path / "translated.gin"
        path.write_text(own.gin_text("a test", str(path)))
        config.load_with_folder("Run", [path])


@pytest.mark.parametrize("name", published.FILES)
def test_what_stands_in_uses_every_macro_that_the_file_uses(name):
    used = []
    for folders in (FOLDERS, []):
        bindings = Bindings()
        bindings.add_file(name, folders)
        bindings.add_flag("DROPOUT_RATE=0.1")  # of a run, which a model refers to
        keys = [key for key in bindings.values if key.parameter]
        used.append({key.name for key in bindings.macros_of(keys)})
    # Of a model: `set_model` asks for them by name, and every model refers to its vocabulary.
    assert not used[0] - used[1] - {*model_settings.SHAPE.values(), "VOCABULARY"}


def scripts():
    folders = [Path(folder) / "prompt_tuning" / "scripts" for folder in FOLDERS]
    return [path for folder in folders for path in sorted(folder.glob("sst2-demo*.sh"))]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_the_authors_scripts(path, monkeypatch):
    for name in ("MODEL_DIR", "EVAL_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    draft = translation.translate([path], [], FOLDERS)
    assert not [row for row in draft.rows if row.kind == DIFFERS]
    assert draft.command("x.gin").startswith('TFDS_DATA_DIR="${TFDS_DATA_DIR}" spjax ')
    if draft.program == "eval":
        flags = dict(draft.flags)
        assert flags["task"] == "taskless_glue_sst2_v200" and flags["split"] == "validation"
        assert flags["prompt"].endswith("pretrained_prompts/t5_1_1_lm100k_base/sst2.npy")
        return
    settings = draft.settings
    xxl = "xxl" in path.name
    assert settings["MODEL_SIZE"] == ("t5_1_1_xxl" if xxl else "t5_1_1_base")
    assert (settings["TRAIN_STEPS"], settings["BATCH_SIZE"]) == (50_000, 32 if xxl else 128)
    assert settings["Run.num_partitions"] == (32 if xxl else 1)
    assert settings["ClassLabels.labels"] == ("positive", "negative")
    assert settings["Adafactor.decay_offset"] == -1_100_000
