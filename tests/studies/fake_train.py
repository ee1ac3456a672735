"""Stands in for `train_folders`: deterministic, resumable, quick, and free of JAX.

Behavior is chosen by lines of config.gin: "steps = N", "seed = N" and "fail = WORD". Of several
processes only the first one does anything.
"""

import dataclasses
import errno
import json
import os
import re
import resource
import signal
import sys
import threading
import time

from spjax.training import code_version
from spjax.training.stop import StopRequested


@dataclasses.dataclass
class Progress:
    step: int
    steps: int
    stage: str = "training"
    scores: tuple = ()


def read(folder):
    text = (folder / "config.gin").read_text()
    values = dict(re.findall(r"^(?:Run\.)?(\w+) = (\S+)$", text, re.M))
    return int(values["steps"]), int(values["seed"]), values.get("fail", "")


def replace(path, content):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def misbehave(kind, folder):
    tries = len(list(folder.glob("try*")))
    (folder / f"try{tries}").touch()
    if kind == "crash" or kind == "crash_once" and not tries:
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "raise":
        raise ValueError("this run cannot be trained")
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if kind == "cache":
        try:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/the/cache/.lock")
        except OSError as error:
            raise ValueError("cannot build the token cache in '/the/cache'") from error
    return kind == "forgets"


def is_follower():
    return "jax" in sys.modules and sys.modules["jax"].process_index() > 0


def train(folders, on_progress):
    if is_follower():
        return
    for folder in folders:
        steps, seed, kind = read(folder)
        if misbehave(kind, folder):
            return
        checkpoint = folder / "checkpoint.json"
        state = {"step": 0, "value": seed}
        if checkpoint.exists():
            state = json.loads(checkpoint.read_text())
        state["code"] = code_version.with_present(state.get("code", [code_version.digest()]))
        while state["step"] < steps:
            state |= {"step": state["step"] + 1, "value": state["value"] * 16807 % 2147483647}
            if state["step"] % 3 == 0:
                replace(checkpoint, state)
            time.sleep(0.002)
            try:
                on_progress(Progress(state["step"], steps))
            except StopRequested:
                replace(checkpoint, state)
                raise
        score = {"accuracy": state["value"] % 1000 / 10, "score": state["value"] % 1000 / 10}
        result = {
            "status": "diverged" if kind == "diverge" else "finished",
            "message": "loss is nan at step 3" if kind == "diverge" else "",
            "model_parameters": 10,
            "trainable_parameters": 1,
            "best_step": steps,
            "steps": steps,
            "validation": score,
            "test": score,
            "majority": {"score": 50.0},
            "ceiling": 100.0,
            "seconds": time.time(),
            "code_sha256": state["code"],
        }
        replace(folder / "result.json", result)
        if kind == "told":
            os.kill(os.getpid(), signal.SIGTERM)


def fail(folders, on_progress):
    raise ValueError("no run can be trained")


def full(folders, on_progress):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folders[0]))


def count_page_faults(folders, on_progress):
    """Notes the page faults of threads that take and free 40 MiB one after the other."""

    def take():
        bytearray(b"1") * (40 << 20)

    def faults():
        thread = threading.Thread(target=take)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        thread.start()
        thread.join()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    counts = [faults() for _ in range(13)]
    replace(folders[0] / "result.json", {"status": "finished", "faults": counts})


def note_devices(folders, on_progress):
    for folder in folders:
        (folder / "devices").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    time.sleep(0.1)  # so that no worker is done before another one has started
    train(folders, on_progress)
