"""A command with the code of two commits: what is compared, and what is left behind."""

import subprocess

import pytest

from benchmarks import commits, machine

SCRIPT = """
import json, os, pathlib
case = {"model": "m", "prompt": 20, "rate": 2.0, "name": "x", "whole": True}
path = pathlib.Path("benchmarks/results/speed.json")
path.write_text(json.dumps({"cases": [case], "sizes": [3, 5]}))
assert os.environ["PYTHONPATH"] == os.getcwd()
"""


def worktrees():
    git = ["git", "-C", str(machine.ROOT), "worktree", "list"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository():
    if not (machine.ROOT / ".git").exists():
        pytest.skip("not a clone")


def test_numbers_are_named_by_their_case():
    value = {
        "cases": [{"task": "rte", "prompt": 5, "rate": 2}],
        "sizes": [3],
        "name": "x",
        "ok": True,
    }
    assert commits.numbers(value) == {
        "cases/rte 5/prompt": 5,
        "cases/rte 5/rate": 2,
        "sizes/0": 3,
    }


def test_ratios_are_medians_of_rounds_that_took_turns():
    rounds = [
        ({"seconds": 4.0, "only": 1.0}, {"seconds": 2.0}),
        ({"seconds": 9.0, "only": 1.0}, {"seconds": 3.0}),
        ({"seconds": 5.0, "only": 1.0}, {"seconds": 5.0}),
    ]
    assert commits.table(rounds) == [("seconds", "5", "3", "2.00")]


@pytest.mark.slow
def test_a_command_runs_in_a_checkout_of_each_commit(repository, capsys):
    before = worktrees()
    commits.main(["HEAD", "HEAD", "--rounds=1", "--", "-c", SCRIPT])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("round 1: ") and lines[1].split() == ["HEAD", "HEAD", "ratio"]
    assert ["cases/m", "20/rate", "2", "2", "1.00"] in [line.split() for line in lines]
    assert worktrees() == before


@pytest.mark.slow
def test_a_command_that_fails_says_what_it_printed_and_leaves_no_checkout(repository):
    before = worktrees()
    with pytest.raises(RuntimeError, match="sorry"):
        commits.main(["HEAD", "HEAD", "--rounds=1", "--", "-c", "raise SystemExit('sorry')"])
    assert worktrees() == before


@pytest.mark.parametrize("more", [[], ["--gin_file=x.gin", "--", "-c", "1"]])
def test_either_a_command_or_a_study(more, capsys):
    with pytest.raises(SystemExit):
        commits.main(["HEAD", "HEAD", *more])
    assert "give either --gin_file or a command after --" in capsys.readouterr().err
