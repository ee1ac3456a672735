"""The authors' launch script, run by their code and, translated, by spjax: the same losses.

T5X's `train.py`, Flaxformer and prompt-tuning run in a process of their own, with the authors' gin
files, Adafactor, restoring and saving; a tiny checkpoint of T5X's format is written here. Both get
the same batches, since the orders of seqio and of Grain differ, and no dropout, since the masks do.

Needs `SPJAX_T5X_PATH` (see `t5x_shims`) and the packages that docs/t5x.md lists.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from spjax import config, trees
from spjax.cli import main
from spjax.config.t5x import launch_scripts
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes
from spjax.training.run_data import RunData
from spjax.vocabularies.vocabulary import load_vocabulary
from tests import t5x_files
from tests.parity import t5x_shims

STEPS, BATCH, START = 6, 4, 1_100_000
SHAPE = T5Config(32128, 32, 2, 16, 64, 2, 2)
ROOT = str(Path(__file__).parents[2])
FOLDERS = [Path(folder) for folder in t5x_shims.folders()]
SCRIPT = "prompt_tuning/scripts/sst2-demo.sh"
SCRIPTS = [path for folder in FOLDERS if (path := folder / SCRIPT).is_file()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not SCRIPTS, reason=f"{t5x_shims.VARIABLE} names no folder with {SCRIPT}"),
]

# The network of spjax in the place of Flaxformer's, in the authors' configuration.
INTEGRATION = """
from __gin__ import dynamic_registration
from spjax.integrations import t5x as spjax_t5x
from spjax.methods import initializers
from spjax.methods import prompt_tuning

MODEL = @spjax_t5x.EncoderDecoderModel()
spjax_t5x.EncoderDecoderModel:
  checkpoint = %INITIAL_CHECKPOINT_PATH
  method = @prompt_tuning.PromptTuning()
  input_vocabulary = %VOCABULARY
  output_vocabulary = %VOCABULARY
  optimizer_def = %OPTIMIZER
  labels = %CLASS_LABELS
  dropout_rate = %DROPOUT_RATE
  dtype = %ACTIVATION_DTYPE
  z_loss = %Z_LOSS
prompt_tuning.PromptTuning:
  length = %PROMPT_LENGTH
  initializer = @initializers.ClassLabels()
"""
WRITE_DATA = (
    "import sys; from tests.data.token_cache import tfds_folders as t; t.write(sys.argv[1])"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A TFDS folder with a few examples of every data set."""
    folder = tmp_path_factory.mktemp("tfds")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *sys.path])}
    environment["TFDS_DATA_DIR"] = str(folder)
    run([sys.executable, "-c", WRITE_DATA, str(folder)], environment)
    return folder


def run(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random T5 1.1 of a few thousand parameters, as a checkpoint of step 1,100,000."""
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype("float32"), weight_shapes(SHAPE)
    )
    folder = tmp_path_factory.mktemp("model") / f"checkpoint_{START}"
    return t5x_files.write(folder, trees.flatten(weights), step=START)


def flags(checkpoint, folder):
    """Flags after those of the script: a model of `SHAPE`, no dropout, every step saved."""
    return [
        *(f"NUM_HEADS={SHAPE.num_heads}", f"HEAD_DIM={SHAPE.head_dim}"),
        *(f"NUM_ENCODER_LAYERS={SHAPE.num_encoder_layers}", f"EMBED_DIM={SHAPE.emb_dim}"),
        *(f"NUM_DECODER_LAYERS={SHAPE.num_decoder_layers}", f"MLP_DIM={SHAPE.mlp_dim}"),
        *("PROMPT_LENGTH=2", "DROPOUT_RATE=0.0", f"BATCH_SIZE={BATCH}", "EVAL_PERIOD=1"),
        *(f"TRAIN_STEPS={START + STEPS}", f"MODEL_DIR='{folder}'", "RANDOM_SEED=0"),
        *(f"INITIAL_CHECKPOINT_PATH='{checkpoint}'", "utils.SaveCheckpointConfig.period=1"),
    ]


def rows(run):
    """The first batches of a run, as features of T5X."""
    batches = RunData(run).batches()
    features = {}
    for _ in range(STEPS):
        batch = next(batches)
        text = (batch["slots_BL"] < 0) & (batch["input_segments_BL"] > 0)
        inputs = np.zeros_like(batch["inputs_BL"])
        for row, (ids, keep) in enumerate(zip(batch["inputs_BL"], text)):
            inputs[row, : keep.sum()] = ids[keep]
        real = batch["target_segments_BM"] > 0
        targets = batch["targets_BM"] * real
        named = {
            "encoder_input_tokens": inputs,
            "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": real.astype("int32"),
        }
        for name, values in named.items():
            features.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in features.items()}


def events(folder):
    """The loss of each step that T5X logs."""
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.util import tensor_util

    losses = {}
    for path in (folder / "train").glob("events*"):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == "loss":
                    losses[event.step - START] = float(tensor_util.make_ndarray(value.tensor))
    return losses


def prompt_of(folder, step):
    path = folder / "numpy_checkpoints" / f"checkpoint_{START + step}"
    return np.load(path / "encoder.prompt.prompt.prompt")


@pytest.mark.parametrize(
    "network, dtype, limit",
    [("Flaxformer", "float32", 2e-6), ("Flaxformer", "bfloat16", 1e-3), ("spjax", "float32", 2e-6)],
)
def test_losses_and_prompts(data, checkpoint, tmp_path, monkeypatch, capsys, network, dtype, limit):
    """Under T5X's trainer either network has the losses that spjax's own training has."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(data))
    more = flags(checkpoint, tmp_path / "ours")
    output = tmp_path / "demo.gin"
    command = ["translate", str(SCRIPTS[0]), f"--output={output}"]
    command.append(f"--gin_search_paths={','.join(map(str, FOLDERS))}")
    assert main.main([*command, *(f"--gin.{flag}" for flag in more)]) == 0, capsys.readouterr()
    assert main.main(["train", f"--gin_file={output}"]) == 0
    ours, folder = config.load_with_folder("Run", [output])
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    logged = {
        row["step"]: row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row
    }

    theirs = tmp_path / "theirs"
    np.savez(tmp_path / "rows.npz", **rows(ours))
    launch = launch_scripts.read(SCRIPTS[0], FOLDERS)
    vocabulary = load_vocabulary("t5").path
    (tmp_path / "integration.gin").write_text(INTEGRATION if network == "spjax" else "")
    job = {
        "folders": [str(folder) for folder in FOLDERS],
        "gin_files": [*launch.gin_files, str(tmp_path / "integration.gin")],
        "batches": str(tmp_path / "rows.npz"),
        "bindings": [
            *launch.bindings,
            *flags(checkpoint, theirs),
            f"seqio.SentencePieceVocabulary.sentencepiece_model_file='{vocabulary}'",
            f"ACTIVATION_DTYPE='{dtype}'",
            "train_script.train.train_eval_dataset_cfg=None",
            "train_script.train.infer_eval_dataset_cfg=None",
            "train_script.train.use_orbax=False",
        ],
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    program = Path(__file__).parent / "t5x_program.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *sys.path])}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": ""}  # one device
    run([sys.executable, str(program), str(tmp_path / "job.json")], environment)
    expected = events(theirs)

    np.testing.assert_array_equal(
        prompt_of(theirs, 0),
        RunData(ours).method.initializer(jax.random.key(0), 2, embedding(checkpoint)),
    )
    assert list(logged) == list(expected) == list(range(1, STEPS + 1))
    print(f"\n{network} under T5X, {dtype}\nstep  T5X's train.py  spjax train")
    for step, loss in expected.items():
        print(f"{step:4}  {loss:14.6f}  {logged[step]:11.6f}")
        assert logged[step] == pytest.approx(loss, rel=limit)
    best = json.loads((Path(folder) / "result.json").read_text())["best_step"]
    prompt = np.load(Path(folder) / "prompt.npy")
    difference = np.abs(prompt_of(theirs, best) - prompt).max()
    print(f"largest difference of the prompts after step {best}: {difference:.1e}")
    assert difference < (1e-3 if dtype == "float32" else 1.0)


def embedding(checkpoint):
    from spjax.checkpoints.weights import weights

    return weights.load("auto", str(checkpoint))["token_embedder"]["embedding"]
