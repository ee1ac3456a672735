"""Stands in for training in searches: `python -m tests.studies.fake_search ARGUMENTS_OF_SPJAX`.

The score depends on the learning rate alone, and is best at 0.3; half of it is there at half of the
steps. `Run.stop_below` is followed.
"""

import functools
import json
import math
import os
import sys
import time

from spjax import config
from tests.studies.fake_train import replace


def score(run):
    return round(100 * math.exp(-(math.log10(run.optimizer.learning_rate / 0.3) ** 2)), 3)


def train(folders, on_progress):
    for folder in folders:
        run = config.load_stored("Run", folder / "config.gin")
        rows, status, demanded = [], "finished", dict(run.stop_below)
        for step in (run.steps // 2, run.steps):
            time.sleep(0.02)
            rows.append({"step": step, "validation/score": score(run) * step / run.steps})
            if rows[-1]["validation/score"] < demanded.get(step, 0):
                status = "pruned"
                break
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = {
            "status": status,
            "steps": rows[-1]["step"],
            "best_step": rows[-1]["step"],
            "validation": {"score": rows[-1]["validation/score"]},
            "test": {"score": 100.0 - score(run)} if status == "finished" else None,
            "model_parameters": 10,
            "trainable_parameters": 1,
        }
        replace(folder / "result.json", result)


if __name__ == "__main__":
    from spjax.cli.main import main
    from spjax.studies import runner

    runner.prepare_data = lambda specs: None
    runner.sweep = functools.partial(runner.sweep, train=f"{__spec__.name}:train")
    os.environ["PYTHONPATH"] = os.getcwd()
    sys.exit(main())
