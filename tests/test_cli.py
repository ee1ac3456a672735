"""The command line, with a stand-in for training."""

import functools
import json
from pathlib import Path

import pytest

from spjax import cli
from spjax.studies import folder as disk
from spjax.studies import runner
from spjax.training import loop
from tests.studies import fake_train
from tests.studies.fake_sweep import TRAIN

ROOT = Path(__file__).parents[1]
STUDY = "--gin_file=experiments/pocket/quickstart.gin"
SMALL = ("--gin.SEED=[0, 1]", "--gin.TRAIN_STEPS=20", "--gin.PROMPT_LENGTH=[1, 5]")
RUN = (
    "--gin_file=gin_configs/models/pocket.gin",
    "--gin_file=gin_configs/runs/pocket.gin",
    "--gin_file=gin_configs/methods/prompt_tuning.gin",
    "--gin.MODEL_SIZE=pocket_50k",
    "--gin.MIXTURE_OR_TASK_NAME=pocket_cb",
    "--gin.TRAIN_STEPS=20",
)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(runner, "sweep", functools.partial(runner.sweep, train=TRAIN))

    def train(runs, folders, on_progress):
        fake_train.train(folders, on_progress)
        return [disk.result(folder) for folder in folders]

    monkeypatch.setattr(loop, "train", train)


def call(capsys, *args):
    code = cli.main(args)
    out, err = capsys.readouterr()
    return code, out, err


def sweep(capsys, folder, *args):
    return call(capsys, "sweep", STUDY, f"--output_dir={folder}", *SMALL, *args)


def test_sweep_then_again_then_plot(capsys, tmp_path):
    code, out, _ = sweep(capsys, tmp_path)
    assert code == 0 and "runs finished in" in out and "score_over_size.png" in out
    assert "pocket_800k" in out and "majority" in out.lower()
    folder = tmp_path / "quickstart"
    assert all((folder / name).exists() for name in ("results.csv", "results.parquet", "study.gin"))
    code, again, _ = sweep(capsys, tmp_path)
    assert code == 0 and "Nothing to do" in again and "score_over_size.png" in again
    figure = folder / "figures" / "score_over_size.png"
    figure.unlink()
    code, plotted, _ = call(capsys, "plot", str(folder))
    assert code == 0 and figure.exists()
    assert plotted.strip() == again[again.index("Test score") :].strip()


def test_dry_run_writes_nothing(capsys, tmp_path):
    code, out, _ = sweep(capsys, tmp_path, "--dry_run", "--workers=2")
    assert code == 0 and "left with 2 workers" in out and "full_fine_tuning" in out
    assert not list(tmp_path.iterdir())


def test_failed_runs_give_exit_code_1(capsys, tmp_path, monkeypatch):
    failing = "tests.studies.fake_train:fail"
    monkeypatch.setattr(runner, "sweep", functools.partial(runner.sweep.func, train=failing))
    code, out, _ = sweep(capsys, tmp_path, "--gin.MODEL_SIZE=pocket_50k")
    assert code == 1 and "FAILED" in out and "0 of" in out


def test_train_and_again(capsys, tmp_path):
    args = ("train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    code, out, _ = call(capsys, *args)
    assert code == 0 and '"best_step": 20' in out and "train 1/20" in out
    assert "Nothing to do" in call(capsys, *args)[1]
    own = f"--gin_file={tmp_path / 'run' / 'config.gin'}"
    assert "Nothing to do" in call(capsys, "train", own)[1]
    code, _, err = call(capsys, *args, "--gin.SEED=3")
    assert code == 2 and "holds another run" in err and "MODEL_DIR" in err


def test_train_needs_a_folder(capsys):
    code, _, err = call(capsys, "train", *RUN)
    assert code == 2 and "MODEL_DIR has no value; give one with --gin.MODEL_DIR=FOLDER" in err


def test_bindings_win_over_files_and_search_paths_are_used(capsys, tmp_path):
    (tmp_path / "mine.gin").write_text("SEED = 5\nBATCH_SIZE = 3\n")
    extra = ("--gin_file=mine.gin", f"--gin_search_paths=/nowhere,{tmp_path}", "--gin.SEED=6")
    folder = tmp_path / "run"
    assert call(capsys, "train", *RUN, *extra, f"--gin.MODEL_DIR={folder}")[0] == 0
    text = (folder / "config.gin").read_text()
    assert "Run.seed = 6" in text and "Run.batch_size = 3" in text


@pytest.mark.parametrize(
    "args, message",
    [
        (("sweep", STUDY, "--gin.TRIAN_STEPS=3", "--dry_run"), "did you mean 'TRAIN_STEPS'"),
        (("sweep", STUDY, "--gin.Study.figures=['x']", "--dry_run"), "unknown figure 'x'"),
        (("sweep", "--gin_file=absent.gin"), "'absent.gin' was not found"),
        (("plot", "absent"), "absent has no study.gin"),
        (("eval", "absent"), "absent holds no finished run"),
    ],
)
def test_bad_input_gives_exit_code_2(capsys, args, message):
    code, _, err = call(capsys, *args)
    assert code == 2 and err.startswith("spjax: error:") and message in err


def test_a_zero_number_of_workers_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["sweep", STUDY, "--workers=0"])
    assert "0 is not 1 or more" in capsys.readouterr().err


def test_ctrl_c_gives_exit_code_130(capsys, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupted)
    code, _, err = call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    assert code == 130 and "the same command continues" in err


def test_pretrain_reads_its_recipe(monkeypatch, capsys, tmp_path):
    from spjax.pocket import corpus
    from spjax.training import pretrain

    monkeypatch.setattr(corpus, "tokenized", lambda seed, count, pieces: (seed, count))
    monkeypatch.setattr(pretrain, "pretrain", lambda config, *rest: {"model": config.model})
    args = ("--gin_file=experiments/pocket/pretrain.gin", "--gin.MODEL_SIZE=pocket_50k")
    code, out, _ = call(capsys, "pretrain", *args, f"--gin.MODEL_DIR={tmp_path}")
    assert code == 0 and json.loads(out[out.index("{") :]) == {"model": "pocket_50k"}
