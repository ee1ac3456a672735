"""The same command with the code of two commits, in turns: `python -m benchmarks.commits`.

  python -m benchmarks.commits 8437c7d HEAD -- -m benchmarks.speed --only=pocket_800k --rounds=1
  python -m benchmarks.commits 8437c7d HEAD --gin_file=quickstart.gin

Everything after `--` are arguments of Python, run in a checkout of each commit. Numbers in the JSON
files that the command writes to `benchmarks/results/` are compared, as are its seconds. With
`--gin_file` a sweep is timed in place of a command: each round begins without a cache, the file is
the same for both commits.

Prints each number before and after, and the ratio: medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
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


def numbers(value: Any, name: str = "") -> dict[str, float]:
    """The numbers of a JSON value, by their path."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = ((_case(part, i), part) for i, part in enumerate(value))
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return {name: value} if is_number else {}
    return {
        path: number
        for key, part in parts
        for path, number in numbers(part, f"{name}/{key}".lstrip("/")).items()
    }


def _case(part: Any, number: int) -> str:
    """Names an item of a list: by its texts and whole numbers of a case, else by its place."""
    if not isinstance(part, dict):
        return str(number)
    names = [str(part[key]) for key in ("model", "task", "prompt", "P") if key in part]
    return " ".join(names) or str(number)


def measure(arguments: Sequence[str], root: Path, cache: Path) -> dict[str, float]:
    """Seconds of Python with some arguments in a checkout, and the numbers that it has written."""
    results = root / "benchmarks" / "results"
    for file in results.glob("*.json"):
        file.unlink()
    environment = os.environ | {"PYTHONPATH": str(root), "SPJAX_CACHE": str(cache)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    measured = {SECONDS: time.perf_counter() - start}
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed in {root}:\n{done.stdout}{done.stderr}")
    for file in sorted(results.glob("*.json")):
        measured |= numbers(json.loads(file.read_text()))
    return measured


def sweep(gin_file: Path, root: Path, folder: Path) -> dict[str, float]:
    """Seconds of a sweep that has neither tokens nor programs from before."""
    arguments = ["-m", "spjax", "sweep", f"--gin_file={gin_file}"]
    return measure([*arguments, f"--output_dir={folder / 'study'}"], root, folder / "cache")


def table(rounds: Sequence[tuple[dict[str, float], dict[str, float]]]) -> list[tuple[str, ...]]:
    """Rows of medians: name, before, after, before over after."""
    rows = []
    for name in rounds[0][0]:
        pairs = [(a[name], b[name]) for a, b in rounds if name in a and name in b]
        if len(pairs) == len(rounds) and all(a and b for a, b in pairs):
            before, after = (statistics.median(values) for values in zip(*pairs))
            ratio = statistics.median(a / b for a, b in pairs)
            rows.append((name, f"{before:.4g}", f"{after:.4g}", f"{ratio:.2f}"))
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
    rounds = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        roots = [
            stack.enter_context(checkout(commit, folder / name))
            for name, commit in (("before", options.before), ("after", options.after))
        ]
        for number in range(options.rounds):
            pair = []
            for root in roots:
                own = folder / f"{root.name}{number}"
                if options.gin_file:
                    pair.append(sweep(options.gin_file.resolve(), root, own))
                else:
                    pair.append(measure(command, root, folder / f"cache_{root.name}"))
            rounds.append(tuple(pair))
            print(
                f"round {number + 1}: {pair[0][SECONDS]:.1f} s, {pair[1][SECONDS]:.1f} s",
                flush=True,
            )
    head = ("", options.before, options.after, "ratio")
    print(text_tables.render([head, *table(rounds)], right=(1, 2, 3)))


if __name__ == "__main__":
    main()
