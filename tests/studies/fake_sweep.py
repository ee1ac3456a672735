"""Sweeps fake runs: `python -m tests.studies.fake_sweep FOLDER RUNS STEPS`."""

import signal
import sys
from pathlib import Path

from spjax.studies import runner
from spjax.studies.executors.local import Local
from spjax.studies.plan import RunSpec

TRAIN = "tests.studies.fake_train:train"


def specs(count, steps=30, fail=()):
    """`count` runs in groups of four; `fail` maps seeds to kinds of misbehavior."""
    result = []
    for seed in range(count):
        kind = dict(fail).get(seed, "none")
        labels = {
            "model": f"m{seed // 4}",
            "method": "prompt_tuning",
            "prompt_length": 5,
            "init": "Uniform",
            "task": "t",
            "seed": seed,
        }
        text = f"steps = {steps}\nseed = {seed}\nfail = {kind}\n"
        arms = ("main", "other") if seed == 1 else ("main",)
        group = seed // 4
        result.append(RunSpec(f"{seed:012x}", arms, text, (group,), str(group), 100, 1.0, labels))
    return result


if __name__ == "__main__":
    # In the background of a shell Ctrl-C is ignored, also by children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan = specs(int(sys.argv[2]), int(sys.argv[3]))
    executor = Local(workers=2)
    outcome = runner.sweep("fake", plan, Path(sys.argv[1]), executor=executor, train=TRAIN)
    print(runner.report(outcome, plan, Path(sys.argv[1])))
