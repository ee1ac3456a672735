"""Sweeps fake runs at a URL: `python -m tests.studies.fake_url_sweep URL FOLDER RUNS STEPS`.

Their checkpoints are folders named after steps, which get their names when they are complete.
"""

import functools
import json
import shutil
import sys
import time
from pathlib import Path

from spjax.studies import lease, mirror, runner
from spjax.studies.executors.local import Local
from tests.studies import fake_train
from tests.studies.fake_sweep import specs

TRAIN = "tests.studies.fake_url_sweep:train"
LEASE_SECONDS = 4.0


def hurry(set_attribute=setattr):
    """Makes leases short, and uploads frequent."""
    set_attribute(mirror, "Lease", functools.partial(lease.Lease, seconds=LEASE_SECONDS))
    set_attribute(lease, "_SLACK", 1.2)  # S3 counts whole seconds
    for name, seconds in {"LOOK": 0.1, "CHECKPOINT": 0.2, "TABLE": 0.1, "PATIENCE": 1.0}.items():
        set_attribute(mirror, f"_{name}_SECONDS", seconds)


def train(folders, on_progress):
    """A hundred steps a second or so, a checkpoint at each tenth; continues from the last."""
    for folder in folders:
        steps, value, _ = fake_train.read(folder)
        step, checkpoints, log = 0, folder / "checkpoints", folder / "metrics.jsonl"
        checkpoints.mkdir(exist_ok=True)
        if saved := [int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal()]:
            step = max(saved)
            value = json.loads((checkpoints / str(step) / "arrays" / "state.json").read_text())
            lines = log.read_text().splitlines()[: step // 10]
            assert len(lines) == step // 10, "the log is behind the checkpoint"
            log.write_text("".join(f"{line}\n" for line in lines))
        with open(folder / "starts", "a") as starts:
            starts.write(f"{step}\n")
        while step < steps:
            step, value = step + 1, value * 16807 % 2147483647
            time.sleep(0.01)
            on_progress(fake_train.Progress(step, steps))
            if step % 10 == 0:
                with open(log, "a") as file:
                    file.write(json.dumps({"step": step, "train/loss": value}) + "\n")
                _save(checkpoints, step, value)
        score = {"accuracy": value % 1000 / 10, "score": value % 1000 / 10}
        content = {"status": "finished", "best_step": steps, "steps": steps, "validation": score}
        fake_train.replace(folder / "result.json", content)


def _save(checkpoints, step, value):
    temporary = checkpoints / f"{step}.orbax-checkpoint-tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "arrays").mkdir(parents=True)
    (temporary / "arrays" / "state.json").write_text(json.dumps(value))
    temporary.rename(checkpoints / str(step))
    for path in checkpoints.iterdir():
        if path.name != str(step):
            shutil.rmtree(path, ignore_errors=True)


def sweep(url, folder, plan, workers=2):
    """Returns the outcome of a sweep, and the mirror."""
    with mirror.Mirror(url, folder, plan).opened() as opened:
        executor = Local(workers)
        outcome = runner.sweep(
            "fake", plan, folder, executor=executor, train=TRAIN, stop_reason=opened.problem
        )
    return outcome, opened


def archived(url, folder, plan):
    """The opened mirror of a study whose first run has a checkpoint of step 10."""
    opened = mirror.Mirror(url, folder, plan)
    opened.lease.acquire()
    state = plan[0].folder(folder) / "checkpoints" / "10" / "arrays" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text("1")
    return opened


if __name__ == "__main__":
    hurry()
    outcome, opened = sweep(
        sys.argv[1], Path(sys.argv[2]), specs(int(sys.argv[3]), int(sys.argv[4]))
    )
    print(outcome, opened.behind)
    sys.exit(bool(outcome.stopped or opened.behind))
