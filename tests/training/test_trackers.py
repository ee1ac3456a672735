"""Trackers: each of them offline, failures that do not harm a run, and runs that go on."""

import dataclasses
import json
import logging
import os
import sqlite3
import struct
import time
import types
from typing import ClassVar

import pytest

from spjax import config, extras
from spjax.files import read_json
from spjax.training import loop, trackers, tracking
from spjax.training.labels import labels_of, title
from spjax.training.stop import StopRequested
from spjax.training.tracker import Tracker

pytestmark = [
    pytest.mark.usefixtures("few_examples"),
    pytest.mark.filterwarnings("ignore"),  # of the trackers' own packages
]
NAMES = trackers.names()
VALUES = ("train/loss", "train/gradient_norm", "train/padding", "validation/score", "test/score")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Stores of all trackers in the test's own folder."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return tmp_path


def read_tensorboard(folder, store):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def wandb_records(path):
    """The records of an offline run: LevelDB's log format in blocks of 32 KiB, after 7 bytes."""
    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        if not kind:
            return
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def read_wandb(folder, store):
    from wandb.proto import wandb_internal_pb2

    values = {}
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for _ in range(100):  # another process of W&B writes the file
            records = [wandb_internal_pb2.Record.FromString(text) for text in wandb_records(path)]
            if records and records[-1].HasField("exit"):
                break
            time.sleep(0.1)
        for record in records:
            row = {x.key or "/".join(x.nested_key): x.value_json for x in record.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    values.setdefault(name, {})[int(row["_step"])] = float(value)
    return values


def read_mlflow(folder, store):
    from mlflow import MlflowClient

    client, run_id = MlflowClient(), read_json(folder / tracking.FILE)["ids"]["mlflow"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.params["task"] == "pocket_cb"
    assert run.info.run_name.startswith("pocket_cb pocket_50k prompt_tuning P=3")
    return {
        name: {x.step: x.value for x in client.get_metric_history(run_id, name)}
        for name in run.data.metrics
    }


def read_trackio(folder, store):
    from trackio import utils

    name, values = read_json(folder / tracking.FILE)["ids"]["trackio"], {}
    for path in utils.TRACKIO_DIR.glob("*.db"):  # as of the first import in this process
        with sqlite3.connect(path) as base:
            query = "SELECT step, metrics FROM metrics WHERE run_name = ?"
            rows = base.execute(query, (name,)).fetchall()
        for step, text in rows:
            for key, value in json.loads(text).items():
                values.setdefault(key, {})[step] = value
    return values


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_in_each_tracker(run, offline, name, monkeypatch):
    tracker = trackers.get(name)
    if tracker.package:
        pytest.importorskip(tracker.package, reason=f"the extra {name} is not installed")
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", -1)  # W&B needs the clock
    run = dataclasses.replace(run, trackers=[name], log_period=1)
    folder = offline / "run"

    def on_progress(progress):
        if progress.step >= 4:
            raise StopRequested

    with pytest.raises(StopRequested):
        loop.train([run], [folder], on_progress)
    path = folder / tracking.FILE
    ids = read_json(path)["ids"] if path.exists() else {}
    assert list(ids) == ([] if name == "tensorboard" else [name])
    (result,) = loop.train([run], [folder])
    assert result["status"] == "finished"
    assert not ids or read_json(path)["ids"] == ids
    values = globals()[f"read_{name}"](folder, offline)
    assert set(VALUES) <= set(values)
    assert sorted(values["train/loss"]) == [1, 2, 3, 4, 5, 6]
    assert values["validation/score"][3] == pytest.approx(result["validation"]["score"], abs=100)
    assert values["test/score"] == {6: pytest.approx(result["test"]["score"])}


@pytest.mark.parametrize("name", [name for name in NAMES if trackers.get(name).package])
def test_runs_side_by_side_in_each_tracker(run, offline, name):
    pytest.importorskip(trackers.get(name).package, reason=f"the extra {name} is not installed")
    runs = [dataclasses.replace(run, seed=seed, trackers=[name], steps=3) for seed in (0, 1)]
    folders = [offline / "study" / "runs" / key for key in ("a", "b")]
    loop.train(runs, folders)
    losses = [globals()[f"read_{name}"](folder, offline)["train/loss"] for folder in folders]
    assert list(losses[0]) == list(losses[1]) == [3] and losses[0] != losses[1]


def test_hyper_parameters_of_tensorboard(run, tmp_path):
    """Written as HParams, under the names of the labels."""
    loop.train([run], [tmp_path])
    text = b"".join(path.read_bytes() for path in tmp_path.glob("events*"))
    for word in (b"_hparams_/session_start_info", b"prompt_length", b"pocket_cb", b"learning_rate"):
        assert word in text
    assert b"_hparams_/session_end_info" in text


def test_a_missing_package_is_an_error_before_anything_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    run = dataclasses.replace(run, trackers=["wandb"])
    with pytest.raises(ValueError, match="the tracker wandb needs the package wandb. Install the"):
        loop.train([run], [tmp_path / "run"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "chosen, message",
    [
        (
            ["wandbb"],
            "unknown tracker 'wandbb'; known trackers: mlflow, tensorboard, trackio, wandb",
        ),
        ("wandb", "Run.trackers is 'wandb'; give a list"),
        (["wandb", "wandb"], "a list of different names"),
    ],
)
def test_wrong_trackers_are_refused(run, chosen, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(run, trackers=chosen)


@pytest.mark.parametrize("call", ["__init__", "log", "finish", "close"])
def test_a_tracker_that_fails_does_not_harm_the_run(run, tmp_path, monkeypatch, caplog, call):
    calls = []

    class Failing(Tracker):
        def __init__(self, tracked):
            self.id = "7"
            self.note("__init__")

        def log(self, step, values):
            self.note("log")

        def finish(self, status):
            self.note("finish")

        def close(self):
            self.note("close")

        def note(self, name):
            calls.append(name)
            if name == call:
                raise RuntimeError("no network\nat all")

    monkeypatch.setattr(trackers, "get", lambda name: Failing)
    with caplog.at_level(logging.WARNING):
        (result,) = loop.train([run], [tmp_path])
    assert result["status"] == "finished" and calls.count(call) == 1
    # One that has begun is closed, for its service not to show a run that goes on for ever.
    assert calls[-1] == (call if call == "__init__" else "close")
    (message,) = [x.getMessage() for x in caplog.records if x.name == tracking.__name__]
    assert message.startswith("the tracker tensorboard is left out from now on (RuntimeError: no n")


def test_a_study_is_the_project_and_labels_the_name(run, tmp_path):
    folder = tmp_path / "sizes" / "runs" / "0123456789ab"
    assert tracking._tracked(run, folder, 5).project == "spjax"  # a folder that is called runs
    folder.parent.mkdir(parents=True)
    (folder.parent.parent / "study.gin").touch()
    tracked = tracking._tracked(run, folder, 5)
    assert tracked.project == "sizes" and tracked.step == 5
    assert tracked.name == title(labels_of(run)) == "pocket_cb pocket_50k prompt_tuning P=3 seed 0"
    assert tracked.settings["optimizer"] == "Adafactor" and tracked.settings["method.length"] == 3
    assert "method.parent" not in tracked.settings and tracked.settings["steps"] == 6
    assert tracking._tracked(run, tmp_path / "one", 0).project == "spjax"
    assert config.run_key(dataclasses.replace(run, trackers=["mlflow"])) == config.run_key(run)


@pytest.mark.parametrize("content", ['{"ids": {"mlf', '{"ids": [1]}', "null", None])
def test_damaged_ids_are_a_warning(tmp_path, caplog, content):
    path = tmp_path / tracking.FILE
    path.mkdir() if content is None else path.write_text(content)
    assert tracking._read_ids(tmp_path) == {}
    assert "the trackers begin the run anew" in caplog.text


@pytest.mark.parametrize("status, code", [("finished", 0), ("diverged", 1), ("", 1)])
def test_wandb_is_told_how_a_run_has_ended(run, tmp_path, monkeypatch, status, code):
    """With "" an interruption, where nothing is told but the end."""
    codes = []

    class Stub:
        summary: ClassVar = {}

        def finish(self, exit_code):
            codes.append(exit_code)

    module = types.SimpleNamespace(init=lambda **_: Stub(), Settings=dict)
    monkeypatch.setattr(extras, "import_module", lambda *_: module)
    tracker = trackers.get("wandb")(tracking._tracked(run, tmp_path, 0))
    if status:
        tracker.finish(status)
    tracker.close()
    assert codes == [code]
