"""The same command with the code of two commits, in turns: `python -m benchmarks.commits`.

  python -m benchmarks.commits 8437c7d HEAD -- -m benchmarks.speed --only=pocket_800k --rounds=1
  python -m benchmarks.commits 8437c7d HEAD --gin_file=experiments/pocket/quickstart.gin

What follows `--` are arguments of Python, run in a checkout of each commit, in every second round
of the later one first. Its seconds are compared, and the numbers that it writes to JSON files in
`benchmarks/results/`. A commit keeps its cache over the rounds, so that the first one compiles.
With `--gin_file` a sweep of that file is timed in place of a command, and each round begins without
a cache.

Prints each number before and after, and the ratio: medians of the rounds.
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


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A folder with the files of a commit."""
    git = ["git", "-C", str(machine.ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", "-q", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yields the numbers of a JSON value with their path, but for those of the machine."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key != "machine":
                yield from numbers(part, f"{name}/{key}")
    elif isinstance(value, list):
        cases = list(map(_case, value))
        for place, (case, part) in enumerate(zip(cases, value)):
            is_one = case and cases.count(case) == 1
            yield from numbers(part, f"{name}/{case if is_one else f'{case} {place}'.strip()}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _case(part: Any) -> str:
    """Names an item of a list by what it is measured of, "" if it does not say."""
    facts = part if isinstance(part, dict) else {}
    return " ".join(str(facts[key]) for key in ("model", "task", "prompt") if key in facts)


def measure(arguments: Sequence[str], root: Path, cache: Path) -> dict[str, float]:
    """Seconds of Python with some arguments in a checkout, and the numbers that it has written."""
    results = root / "benchmarks" / "results"
    for file in results.glob("*.json"):
        file.unlink()
    measured = {SECONDS: timed([sys.executable, *arguments], cache, root)}
    for file in sorted(results.glob("*.json")):
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
    head = ("", options.before, options.after, "ratio")
    print(text_tables.render([head, *table(rounds)], right=(1, 2, 3)))


if __name__ == "__main__":
    main()
