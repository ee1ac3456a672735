"""Valid files of every kind, what takes long cut off, and the counts at the end."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness
from harness import Accepted

LABELS = ("negative", "positive")
TEXTS = [f"the {'good' if i % 2 else 'bad'} film {i}" for i in range(60)]
ROWS = [{"input": text, "target": LABELS["good" in text]} for text in TEXTS]


def pytest_terminal_summary(terminalreporter):
    if sum(harness.COUNTS.values()):
        counts = ", ".join(f"{harness.COUNTS[kind]} {kind}" for kind in harness.KINDS)
        terminalreporter.write_line(f"bad input: {sum(harness.COUNTS.values())} in all; {counts}")


@pytest.fixture(scope="session")
def valid(tmp_path_factory, checkpoint):
    """Paths of valid files and folders by name; a fresh copy is made where one is damaged."""
    folder = tmp_path_factory.mktemp("valid")
    _tables(folder)
    _prompts(folder)
    _weights(folder, checkpoint)
    _folders(folder, checkpoint)
    return {path.name: path for path in folder.iterdir()}


def _tables(folder):
    import pandas as pd

    frame = pd.DataFrame(ROWS)
    for name in ("rows.jsonl", "rows.json"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    frame.to_csv(folder / "rows.csv", index=False)
    frame.to_csv(folder / "rows.tsv", index=False, sep="\t")
    frame.to_parquet(folder / "rows.parquet")
    (folder / "inputs.txt").write_text("a good film\na bad film\n")
    (folder / "inputs.jsonl").write_text('{"inputs": "a good film"}\n{"inputs": "a bad film"}\n')


def _prompts(folder):
    from spjax.checkpoints.prompts import prompt_files
    from spjax.checkpoints.prompts.prompt import Prompt

    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    prompt = Prompt.from_array(rows, {"task": "pocket_cb", "model": "pocket_50k"})
    for name, format in (
        ("prompt.npy", "npy"),
        ("prompt.safetensors", "safetensors"),
        ("peft", "peft"),
        ("t5x_prompt", "t5x"),
    ):
        prompt_files.write(folder / name, prompt, format)


def _weights(folder, checkpoint):
    from spjax.checkpoints.weights import convert
    from spjax.vocabularies import vocabulary

    convert.convert(checkpoint, folder / "weights.safetensors", "safetensors", "float32")
    convert.convert(checkpoint, folder / "huggingface", "huggingface", "float32")
    path = vocabulary.load_vocabulary("pocket").path
    (folder / "spiece.model").write_bytes(Path(path).read_bytes())


def _folders(folder, checkpoint):
    from spjax import config
    from spjax.methods.initializers import SampledVocabulary
    from spjax.methods.prompt_tuning import PromptTuning
    from spjax.training.optimizers import Adafactor
    from spjax.training.run import Run

    method = PromptTuning(length=3, initializer=SampledVocabulary())
    run = Run("pocket_cb", "pocket_50k", method, Adafactor(0.3), checkpoint, steps=2, eval_period=1)
    result = {
        "status": "finished",
        "task": "pocket_cb",
        "model": "pocket_50k",
        "method": "prompt_tuning",
        "insertion": "front",
        "best_step": 2,
        "steps": 2,
        "seed": 0,
        "test": {"score": 50.0},
        "validation": {"score": 50.0},
        "majority": {"score": 40.0},
        "prompt_length": 3,
    }
    made = folder / "run"
    made.mkdir()
    (made / "config.gin").write_text(config.config_str(run))
    (made / "result.json").write_text(json.dumps(result))
    (made / "metrics.jsonl").write_text(
        '{"step": 1, "trainable/norm": 1.0, "trainable/drift": 0.1, "validation/score": 50.0}\n'
    )
    (made / "prompt.npy").write_bytes((folder / "prompt.npy").read_bytes())
    (folder / "study.gin").write_text(STUDY)
    made = folder / "study"
    made.mkdir()
    (made / "study.gin").write_text(STUDY)
    (made / "results.csv").write_text(RESULTS)


STUDY = """
Study.name = "small"
Study.arms = [@prompts/Arm()]
Study.figures = ["score_over_size"]
prompts/Arm.name = "prompts"
prompts/Arm.gin_files = [
    "gin_configs/models/pocket.gin", "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
]
prompts/Arm.axes = {
    "MODEL_SIZE": ["pocket_50k"], "MIXTURE_OR_TASK_NAME": ["pocket_cb"], "PROMPT_LENGTH": [1, 2],
}
"""
_COLUMNS = (
    "study,arm,key,model,model_parameters,task,method,prompt_length,init,seed,learning_rate,"
    "trainable_parameters,best_step,steps,status,validation_score,test_score,majority_score,"
    "ceiling,validation_metrics,test_metrics,transfer_metrics"
)
RESULTS = f"""{_COLUMNS}
small,prompts,0123456789ab,pocket_50k,49472,pocket_cb,prompt_tuning,1,class_labels,0,0.3,16,1,2,\
finished,50.0,51.0,40.0,98.0,{{}},{{}},{{}}
small,prompts,0123456789ac,pocket_50k,49472,pocket_cb,prompt_tuning,2,class_labels,0,0.3,32,1,2,\
finished,52.0,53.0,40.0,98.0,{{}},{{}},{{}}
"""


@pytest.fixture(autouse=True)
def cut_off(monkeypatch, tmp_path, shared_cache):
    """Raises `Accepted` in the place of what comes after the last check of an input."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    from spjax import hub
    from spjax.data.corpora import builders, corpora
    from spjax.data.token_cache import cache
    from spjax.inference import prediction
    from spjax.pocket import corpus
    from spjax.pretraining import pretrain
    from spjax.studies import runner
    from spjax.training import loop, stored_run

    def accepted(*args, **named):
        raise Accepted

    for module, name in (
        (loop, "train"),
        (hub, "upload"),
        (runner, "sweep"),
        (pretrain, "pretrain"),
        (cache, "_run_builders"),
        (builders, "run_workers"),
        (corpora.Beam, "cache"),
        (stored_run, "score_folder"),
    ):
        monkeypatch.setattr(module, name, accepted)
    monkeypatch.setattr(corpus, "tokenized", lambda *args: None)

    def answer(self, inputs, who, numbers=()):
        return [prediction.Answer("positive", 0.0) for _ in inputs]

    monkeypatch.setattr(prediction.Predictor, "answer", answer)
    for canvas, name in ((FigureCanvasAgg, "print_png"), (FigureCanvasSVG, "print_svg")):
        monkeypatch.setattr(canvas, name, lambda self, path, **named: Path(path).touch())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPJAX_DEBUG", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def special(tmp_path_factory):
    """Paths that are no readable files."""
    folder = tmp_path_factory.mktemp("special")
    harness.pipe(folder / "fifo")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    (folder / "closed").mkdir(mode=0)
    (folder / "unreadable").touch(mode=0)
    inside = ("fifo", "empty", "folder", "loop", "dangling", "missing", "closed/x", "unreadable")
    others = ("", "/dev/null", "/dev/zero", "/proc/self/mem", "x" * 300, "\udcff", "~", "é")
    yield [*(str(folder / name) for name in inside), *others]
    (folder / "closed").chmod(0o700)
