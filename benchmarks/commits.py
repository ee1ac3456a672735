"""The same command with the code of two commits, in turns: `python -m benchmarks.commits`.

  python -m benchmarks.commits 8437c7d HEAD -- -m benchmarks.speed --only=pocket_800k --rounds=1
  python -m benchmarks.commits 8437c7d HEAD --gin_file=experiments/pocket/quickstart.gin

What follows `--` is passed to `python` in a git worktree of each commit. The commits take turns;
every second round starts with AFTER. Compared are the seconds of the command and the numbers that
it writes to JSON files in `benchmarks/results/`. A commit keeps its cache over the rounds, so that
only the first round compiles. With `--gin_file` a sweep of that file takes the place of the
command, and each round starts without a cache.

Prints medians of the rounds for each number: before, after, and the ratio before / after. Above 1
is better for seconds and bytes, worse for rates. The ratio is the median of the rounds' ratios, so
it can differ from the ratio of the medians beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.column import timed
from spjax import text_tables

SECONDS = "seconds"
_DESCRIPTIONS = ("machine", "versions", "lengths", "prompt_lengths")
# Settings, by which a case of a list is known in both commits.
_NAMES = (
    *("model", "task", "method", "kind", "command", "reader", "axis", "value", "claim", "part"),
    *("shape", "prompt", "prompt_length", "batch_size", "runs", "tasks", "draws", "seeds", "name"),
)
# Those, and settings that follow from them or are the same in all cases.
_SETTINGS = {
    *_NAMES,
    *("chunks", "rows", "size", "examples", "inputs", "steps", "rounds", "studies", "alpha"),
    *("records", "requests", "peft_threads", "data_devices", "model_devices", "microbatches"),
    "gang_width",
}


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A folder with the files of a commit."""
    git = ["git", "-C", str(machine.ROOT), "worktree"]
    command = [*git, "add", "--detach", "-q", str(folder), commit]
    added = subprocess.run(command, capture_output=True, text=True)
    if added.returncode:
        raise SystemExit(f"cannot check out {commit}: {added.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yields the measured numbers in a JSON value with their path, not those of settings."""
    if isinstance(value, dict):
        for key, part in value.items():
            is_setting = key in _SETTINGS and not _has_cases(part)
            if not is_setting and key not in _DESCRIPTIONS:
                yield from numbers(part, f"{name}/{key}")
    elif isinstance(value, list):
        cases = list(map(_case, value))
        for place, (case, part) in enumerate(zip(cases, value)):
            is_one = case and cases.count(case) == 1
            yield from numbers(part, f"{name}/{case if is_one else f'{case} {place}'.strip()}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _has_cases(value: Any) -> bool:
    """Returns whether a value is more than one setting, as `runs` of some benchmarks is."""
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, dict) for part in parts)


def _case(part: Any) -> str:
    """Names an item of a list by its settings, "" if it has none."""
    facts = part if isinstance(part, dict) else {}
    return " ".join(str(facts[key]) for key in _NAMES if key in facts)


def measure(arguments: Sequence[str], root: Path, cache: Path) -> dict[str, float]:
    """Seconds of Python with some arguments in a checkout, and the numbers that it has written."""
    results = root / "benchmarks" / "results"
    for file in results.rglob("*.json"):
        file.unlink()
    measured = {SECONDS: timed([sys.executable, *arguments], cache, root)}
    for file in sorted(results.rglob("*.json")):
        measured |= dict(numbers(json.loads(file.read_text()), file.stem))
    return measured


def sweep(gin_file: Path, root: Path, folder: Path) -> dict[str, float]:
    """Seconds of a sweep that has neither tokens nor programs from before."""
    arguments = ["-m", "spjax", "sweep", f"--gin_file={gin_file}"]
    return measure([*arguments, f"--output_dir={folder / 'study'}"], root, folder / "cache")


def table(rounds: Sequence[Sequence[dict[str, float]]]) -> list[tuple[str, ...]]:
    """Rows of medians, name, before, after, before over after; "-" for what a commit lacks."""
    rows = []
    for name in dict.fromkeys(name for pair in rounds for side in pair for name in side):
        sides = [[side[name] for side in of_commit if name in side] for of_commit in zip(*rounds)]
        cells = [f"{statistics.median(side):.4g}" if side else "-" for side in sides]
        ratios = [a / b for a, b in zip(*sides) if b] if all(sides) else []
        rows.append((name, *cells, f"{statistics.median(ratios):.2f}" if ratios else "-"))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    argv = list(sys.argv[1:] if argv is None else argv)
    place = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", help="another one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gin_file", type=Path, help="a study that both commits can run")
    options = parser.parse_args(argv[:place])
    command = argv[place + 1 :]
    if bool(command) == bool(options.gin_file):
        parser.error("give either --gin_file or a command after --")
    if options.gin_file and not options.gin_file.is_file():
        parser.error(f"there is no file {options.gin_file}")
    rounds = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        roots = [
            stack.enter_context(checkout(commit, folder / name))
            for name, commit in (("before", options.before), ("after", options.after))
        ]
        for number in range(options.rounds):
            sides = {}
            for root in roots if number % 2 == 0 else reversed(roots):
                if options.gin_file:
                    study = folder / f"{root.name}{number}"
                    sides[root] = sweep(options.gin_file.resolve(), root, study)
                else:
                    sides[root] = measure(command, root, folder / f"cache_{root.name}")
            rounds.append([sides[root] for root in roots])
            took = ", ".join(f"{sides[root][SECONDS]:.1f} s" for root in roots)
            print(f"round {number + 1}: {took}", flush=True)
    head = ("", options.before, options.after, "before / after")
    print(text_tables.render([head, *table(rounds)], right=(1, 2, 3)))


if __name__ == "__main__":
    main()
