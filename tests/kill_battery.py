"""Kills a command with SIGKILL at random moments, and compares its end with an undisturbed one.

    python -m tests.kill_battery COMMAND [COMMAND ...] [--count=30] [--seed=0]

The commands are train, sweep, cache, corpus and pretrain. After each kill it also looks, for five
seconds at the most, for processes that live on. Prints a line of counts for each command; the exit
status is 1 if one did not end alike.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "SPJAX_KILL_BATTERY"
GIN = ROOT / "gin_configs"
POCKET = [f"--gin_file={GIN}/{name}.gin" for name in ("models/pocket", "runs/pocket")]
SMALL = {"MODEL_SIZE": '"pocket_50k"', "PROMPT_LENGTH": 4, "Run.eval_examples": 16}
TASK = {"MIXTURE_OR_TASK_NAME": '"pocket_cb"'}


def bindings(values: dict) -> list[str]:
    """Flags of gin bindings."""
    return [f"--gin.{name}={value}" for name, value in values.items()]


def arguments(name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command line of a battery, and its environment."""
    prompt = [*POCKET, f"--gin_file={GIN}/methods/prompt_tuning.gin"]
    if name == "train":
        values = {**SMALL, **TASK, "TRAIN_STEPS": 400, "EVAL_PERIOD": 50, "SEED": 1}
        return ["train", *prompt, *bindings({**values, "MODEL_DIR": f'"{folder}/run"'})], {}
    if name == "sweep":
        study = folder / "study.gin"
        files = [flag.partition("=")[2] for flag in prompt]
        values = {**SMALL, "TRAIN_STEPS": 100, "EVAL_PERIOD": 20}
        values["MODEL_SIZE"] = "pocket_50k"
        study.write_text(
            'Study.name = "study"\nStudy.arms = [@prompts/Arm()]\nprompts/Arm.name = "prompts"\n'
            f"prompts/Arm.gin_files = {files}\nprompts/Arm.bindings = {values}\n"
            'prompts/Arm.axes = {"MIXTURE_OR_TASK_NAME": ["pocket_cb"], "PROMPT_LENGTH": [1, 4], '
            '"SEED": [0, 1]}\n',
            encoding="utf-8",
        )
        return ["sweep", f"--gin_file={study}", f"--output_dir={folder}", "--workers=2"], {}
    if name == "cache":
        return ["cache", "--task=pocket_cb,pocket_copa", f"--cache_dir={folder}/cache"], {}
    if name == "corpus":
        for part in range(4):
            lines = (f"document {i} of part {part} has a few words\n" for i in range(50_000))
            path = folder / f"{part}.txt"
            if not path.exists():
                path.write_text("".join(lines), encoding="utf-8")
                os.utime(path, (1, 1))  # it is part of the corpus's key
        source = f"--corpus=notes={folder}/*.txt"
        flags = ["--vocabulary=pocket", "--num_workers=2", f"--cache_dir={folder}/cache"]
        return ["cache", source, *flags], {}
    values = {
        "Pretrain.model": '"pocket_50k"',
        "Pretrain.documents": 400,
        "Pretrain.span_steps": 130,
        "Pretrain.lesson_steps": "()",
        "Pretrain.adaptation_steps": 130,
        "Pretrain.long_steps": 0,
        "Pretrain.rows": 4,
        "Pretrain.checkpoint_period": 30,
        "MODEL_DIR": f'"{folder}/run"',
    }
    (folder / "pretrain.gin").write_text("", encoding="utf-8")
    return ["pretrain", f"--gin_file={folder}/pretrain.gin", *bindings(values)], {}


def ending(name: str, folder: Path) -> dict[str, str]:
    """Returns digests of the files that a command has left, without times."""
    if name in ("cache", "corpus"):
        paths = [path for path in (folder / "cache").rglob("*") if path.is_file()]
        paths = [path for path in paths if ".lock" not in path.name]
    elif name == "sweep":
        paths = [folder / "study" / f"results.{kind}" for kind in ("csv", "parquet")]
        paths += sorted((folder / "study").glob("runs/*/metrics.jsonl"))
    else:
        names = ("result.json", "metrics.jsonl", "prompt.npy", "log.jsonl")
        paths = [folder / "run" / x for x in names if (folder / "run" / x).exists()]
        paths += [path for path in (folder / "run").glob("pocket_50k*") if path.is_file()]
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(paths)}


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name == "result.json":
        content = json.loads(data)
        del content["seconds"], content["content_sha256"]
        data = json.dumps(content).encode()
    return hashlib.sha256(data).hexdigest()


def start(name: str, folder: Path, mark: str) -> subprocess.Popen:
    """Starts a command in a folder; all its processes carry the mark in their environment."""
    folder.mkdir(parents=True, exist_ok=True)
    command, environment = arguments(name, folder)
    environment = {**os.environ, **environment, MARK: mark, "PYTHONPATH": str(ROOT)}
    with open(folder / "output.log", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "spjax.cli", *command],
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )


def living(mark: str) -> list[int]:
    """Processes that carry a mark."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
        except OSError:
            pass  # gone by now
    return pids


def battery(name: str, count: int, seed: int, base: Path) -> bool:
    """Kills a command so often, a few times in each folder; prints counts."""
    rng, mark = random.Random(seed), uuid.uuid4().hex
    begin = time.monotonic()
    if start(name, base / "whole", mark).wait():
        print((base / "whole" / "output.log").read_text("utf-8", "replace")[-2000:])
        raise RuntimeError(f"the undisturbed {name} failed")
    length = time.monotonic() - begin
    wanted = ending(name, base / "whole")
    kills = same = different = orphans = failed = 0
    while kills < count:
        folder = base / f"killed{same + different}"
        for _ in range(rng.randint(1, 5)):
            process = start(name, folder, mark)
            try:
                process.wait(rng.uniform(0.0, 1.1 * length))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            end = time.monotonic() + 5
            while (left := living(mark)) and time.monotonic() < end:
                time.sleep(0.1)
            orphans += bool(left)
            for pid in left:  # of this battery alone, by its mark
                os.kill(pid, signal.SIGKILL)
            if kills == count:
                break
        code = start(name, folder, mark).wait()
        found = ending(name, folder)
        failed += code != 0
        alike = code == 0 and found == wanted
        same, different = same + alike, different + (not alike)
        if not alike:
            names = sorted(x for x in {*found, *wanted} if found.get(x) != wanted.get(x))
            print(f"  exit status {code}, other files: {', '.join(names[:5])}", flush=True)
            print((folder / "output.log").read_text("utf-8", "replace")[-2000:], flush=True)
    print(
        f"{name}: {kills} kills, {same} ends alike, {different} not ({failed} failed), "
        f"processes left after 5 s: {orphans}",
        flush=True,
    )
    return not different and not orphans


def main() -> int:
    """Runs the batteries that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("train", "sweep", "cache", "corpus", "pretrain")
    parser.add_argument("commands", nargs="+", choices=names)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = [battery(x, args.count, args.seed, Path(folder) / x) for x in args.commands]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
