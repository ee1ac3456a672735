"""The command line, with a stand-in for training."""

import errno
import functools
import json
import os
from pathlib import Path

import pytest

from spjax.analysis import report
from spjax.checkpoints.weights import weights
from spjax.cli import main
from spjax.data.tasks import file_task
from spjax.data.token_cache import cache
from spjax.models.sizes import SIZES
from spjax.pocket import corpus
from spjax.pretraining import pretrain
from spjax.studies import results, run_folder, runner
from spjax.training import loop
from tests.studies import fake_train
from tests.studies.fake_sweep import TRAIN

ROOT = Path(__file__).parents[2]
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
PRETRAIN = ("--gin_file=experiments/pocket/pretrain.gin", "--gin.MODEL_SIZE=pocket_50k")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path_factory):
    monkeypatch.chdir(ROOT)
    shipped = tmp_path_factory.mktemp("shipped")
    for size in SIZES:
        (shipped / f"{size}.safetensors").touch()
    monkeypatch.setattr(weights, "SHIPPED", shipped)
    monkeypatch.setattr(cache, "ensure_all", lambda wanted: None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(runner, "sweep", functools.partial(runner.sweep, train=TRAIN))

    def train(runs, folders, on_progress):
        fake_train.train(folders, on_progress)
        return [run_folder.result(folder) for folder in folders]

    monkeypatch.setattr(loop, "train", train)


def call(capsys, *args):
    code = main.main(args)
    out, err = capsys.readouterr()
    return code, out, err


def sweep(capsys, folder, *args):
    return call(capsys, "sweep", STUDY, f"--output_dir={folder}", *SMALL, *args)


def test_sweep_then_again_then_plot(capsys, tmp_path):
    code, out, _ = sweep(capsys, tmp_path)
    assert code == 0 and "runs finished in" in out and "score_over_size.png" in out
    assert "graded_350k" in out and "majority" in out.lower()
    folder = tmp_path / "quickstart"
    assert all((folder / name).exists() for name in ("results.csv", "results.parquet", "study.gin"))
    code, again, _ = sweep(capsys, tmp_path)
    assert code == 0 and "Nothing to do" in again and "score_over_size.png" in again
    figure = folder / "figures" / "score_over_size.png"
    figure.unlink()
    code, plotted, _ = call(capsys, "plot", str(folder))
    assert code == 0 and figure.exists()
    assert plotted.strip() == again[again.index("Test score") :].strip()


@pytest.mark.slow
def test_data_is_prepared_once_and_only_for_runs_that_are_left(capsys, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(cache, "ensure_all", lambda wanted: calls.append(list(wanted)))
    small = ("--gin.MODEL_SIZE=pocket_50k", "--gin.TASKS=['pocket_cb', 'pocket_rte']")
    assert "Preparing data ..." in sweep(capsys, tmp_path, *small)[1]
    assert {(info.name, split) for info, split, *_ in calls[0]} == {
        (f"pocket_{task}", split) for task in ("cb", "rte") for split in file_task.SPLITS
    }
    code, out, _ = sweep(capsys, tmp_path, *small)
    assert code == 0 and "Preparing" not in out and len(calls) == 1
    cut = {"inputs": 24, "targets": 4}
    sweep(capsys, tmp_path, *small, f"--gin.TASK_FEATURE_LENGTHS={cut}")
    assert len(calls) == 2 and all(lengths == cut for _, _, lengths, _ in calls[1])


def test_missing_weights_are_one_error_before_any_worker(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "none")
    code, _, err = sweep(capsys, tmp_path / "out")
    assert code == 2 and "no weights ship for 'graded_50k'" in err
    assert not list(tmp_path.glob("out/*/logs"))
    assert sweep(capsys, tmp_path / "out", "--dry_run")[0] == 0
    code, _, err = call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    assert code == 2 and "no weights ship for 'pocket_50k'" in err
    assert not (tmp_path / "run" / "config.gin").exists()


def test_an_unwritable_token_cache_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "w.safetensors").touch()
    own = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / 'w.safetensors'}"
    code, _, err = sweep(capsys, tmp_path / "out", "--gin.MODEL_SIZE=pocket_50k", own)
    assert code == 2 and "cannot build the token cache" in err and "file/cache" in err
    assert "output folder" not in err


def full_disk(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")


@pytest.mark.parametrize("place", ["table", "figures", "worker"])
def test_a_full_disk_gives_a_message_and_exit_code_1(capsys, tmp_path, monkeypatch, place):
    small = ("--gin.MODEL_SIZE=pocket_50k", "--gin.SEED=[0]")
    if place == "table":
        monkeypatch.setattr(results, "write", full_disk)
    elif place == "figures":
        monkeypatch.setattr(report, "finish", full_disk)
    else:
        full = "tests.studies.fake_train:full"
        monkeypatch.setattr(runner, "sweep", functools.partial(runner.sweep.func, train=full))
    code, _, err = sweep(capsys, tmp_path, *small)
    assert code == 1 and err.startswith("spjax: error: ") and "No space left on device" in err
    assert "what was saved is kept" in err.lower() and "same command continues" in err


def test_a_full_disk_while_a_run_trains(capsys, tmp_path, monkeypatch):
    args = ("train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    monkeypatch.setattr(loop, "train", full_disk)
    code, _, err = call(capsys, *args)
    assert code == 1 and "error: /some/file cannot be written (No space left on device; " in err
    assert "what was saved is kept; the same command continues" in err
    nameless = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(loop, "train", lambda *rest: exec("raise error", {"error": nameless}))
    assert f"error: {tmp_path / 'run'} cannot be written (No space" in call(capsys, *args)[2]
    text = 'UNKNOWN: Error writing local file "/a/b" [OS error 28: No space left on device]'
    # As TensorStore does, from code that is not ours.
    monkeypatch.setattr(loop, "train", lambda *rest: exec("raise ValueError(text)", {"text": text}))
    code, _, err = call(capsys, *args)
    assert code == 1 and "error: /a/b cannot be written (No space left on device; " in err


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
    assert code == 0 and '"best_step": 20' in out and "training 2/20\n" in out
    assert "Nothing to do" in call(capsys, *args)[1]
    own = f"--gin_file={tmp_path / 'run' / 'config.gin'}"
    assert "Nothing to do" in call(capsys, "train", own)[1]
    elsewhere = ("--gin.Run.num_partitions=2", "--gin.Run.logical_axis_rules=fsdp")
    assert "Nothing to do" in call(capsys, *args, *elsewhere)[1]
    code, _, err = call(capsys, *args, "--gin.SEED=3")
    assert code == 2 and "holds another run" in err and "MODEL_DIR" in err


def test_a_folder_of_a_run_that_failed_at_once_can_be_used_again(capsys, tmp_path):
    (tmp_path / "config.gin").write_text("Run.task = 'misspelt.jsonl'\n")
    assert "holds another run" in call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path}")[2]
    (tmp_path / ".lock").touch()  # a run has been here
    assert call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path}")[0] == 0
    assert "pocket_cb" in (tmp_path / "config.gin").read_text()


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_a_users_own_folder_is_left_alone(capsys, tmp_path, command):
    (tmp_path / "thesis.txt").write_text("years of work")
    args = RUN if command == "train" else PRETRAIN
    code, _, err = call(capsys, command, *args, f"--gin.MODEL_DIR={tmp_path}")
    assert code == 2 and f"{tmp_path} holds files that are no run's (thesis.txt)" in err
    assert "--gin.MODEL_DIR" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_lock_is_held_and_stays_while_a_run_trains(capsys, tmp_path, monkeypatch):
    codes = []

    def train(runs, folders, on_progress):
        codes.append(main.main(["train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}"]))
        return [{"status": "finished"}]

    monkeypatch.setattr(loop, "train", train)
    code, _, err = call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    assert code == 0 and codes == [2] and "already at work" in err
    assert (tmp_path / "run" / ".lock").exists()


def test_a_run_is_trained_as_it_would_be_read(capsys, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(loop, "train", lambda runs, *rest: trained.extend(runs) or [{}])
    args = ("train", *RUN, "--gin.DROPOUT_RATE=0.0", f"--gin.MODEL_DIR={tmp_path / 'run'}")
    call(capsys, *args)
    assert repr(trained[0].dropout_rate) == "0"


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
        (("plot", "absent"), "there is no folder absent"),
        (("eval", "absent"), "there is no folder absent."),
        (("eval", "tests/clii"), "no folder tests/clii. Did you mean 'tests/cli'?"),
        (("eval", "tests/cli"), "tests/cli holds no finished run"),
        (("sweep", STUDY, "--gin.Study.figures=['score_over_sizes']"), "'score_over_size'?"),
    ],
)
def test_bad_input_gives_exit_code_2(capsys, args, message):
    code, _, err = call(capsys, *args)
    assert code == 2 and err.startswith("spjax: error:") and message in err


def test_a_zero_number_of_workers_is_refused(capsys):
    with pytest.raises(SystemExit):
        main.main(["sweep", STUDY, "--workers=0"])
    assert "0 is not 1 or more" in capsys.readouterr().err


def test_ctrl_c_gives_exit_code_130(capsys, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupted)
    code, _, err = call(capsys, "train", *RUN, f"--gin.MODEL_DIR={tmp_path / 'run'}")
    assert code == 130 and "the same command continues" in err


def nan(*args):
    raise FloatingPointError("the loss of pocket_50k became nan before step 100")


def test_pretrain_reads_its_recipe_and_trains_once(monkeypatch, capsys, tmp_path):
    def train(recipe, documents, lessons, held_out, folder):
        (folder / "pocket_50k.json").write_text('{"model": "pocket_50k"}')
        return {"model": recipe.model}

    def tokenized(seed, count, pieces, genres=corpus.GENRES):
        written.append(count)

    written = []
    monkeypatch.setattr(corpus, "tokenized", tokenized)
    monkeypatch.setattr(pretrain, "pretrain", nan)
    args = ("pretrain", *PRETRAIN, f"--gin.MODEL_DIR={tmp_path}")
    code, _, err = call(capsys, *args)
    assert code == 1 and err.startswith("spjax: error: the loss of pocket_50k became nan before")
    monkeypatch.setattr(pretrain, "pretrain", train)
    code, out, _ = call(capsys, *args)
    assert code == 0 and json.loads(out[out.index("{") :]) == {"model": "pocket_50k"}
    assert "Pretrain.model = 'pocket_50k'" in (tmp_path / "config.gin").read_text()
    code, _, err = call(capsys, *args, "--gin.Pretrain.seed=1")
    assert code == 2 and "holds another run" in err
    calls = len(written)
    code, out, _ = call(capsys, *args)
    assert code == 0 and "Nothing to do" in out and '"model": "pocket_50k"' in out
    assert len(written) == calls


def test_pretrain_lists_the_sizes(capsys, tmp_path):
    args = ("pretrain", *PRETRAIN, f"--gin.MODEL_DIR={tmp_path}")
    code, _, err = call(capsys, *args, "--gin.MODEL_SIZE=pocket_51k")
    assert code == 2 and "unknown model size 'pocket_51k'; known sizes: " in err
    code, _, err = call(capsys, *args, "--gin.MODEL_SIZE=t5_1_1_small")
    assert code == 2 and "no entry for 't5_1_1_small', only 'pocket_50k'" in err
