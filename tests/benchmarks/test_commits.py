"""A command with the code of two commits: what is compared, and what is left behind."""

import contextlib
import subprocess

import pytest

from benchmarks import commits, machine

SCRIPT = """
import json, os, pathlib
case = {"model": "m", "prompt": 20, "rate": 2.0, "name": "x", "whole": True}
path = pathlib.Path("benchmarks/results/speed.json")
path.write_text(json.dumps({"cases": [case], "sizes": [3, 5]}))
assert os.environ["PYTHONPATH"] == os.pathsep.join([os.getcwd(), "/theirs"])
"""


def worktrees():
    git = ["git", "-C", str(machine.ROOT), "worktree", "list"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository():
    if not (machine.ROOT / ".git").exists():
        pytest.skip("not a clone")


def test_numbers_are_named_by_their_file_and_case():
    cases = [
        {"task": "rte", "prompt": prompt, "rate": 2 * prompt, "chunks": [[1, 2]]}
        for prompt in (5, 20)
    ]
    value = {"cases": cases, "sizes": [3], "name": "x", "ok": True, "machine": {"load": 1.5}}
    value |= {"studies": 400, "rows": [16, 112], "runs": {"first run": {"seeds": [0, 1]}}}
    assert dict(commits.numbers(value, "speed")) == {
        "speed/cases/rte 5/rate": 10,
        "speed/cases/rte 20/rate": 40,
        "speed/sizes/0": 3,
    }


def test_a_case_is_the_same_whatever_else_its_texts_say():
    names = []
    for note, first in (("fast", True), ("faster", False)):
        case = {"prompt": 20, "task": "rte"} if first else {"task": "rte", "prompt": 20}
        names.append([name for name, _ in commits.numbers([case | {"note": note, "rate": 1}], "x")])
    assert names[0] == names[1] == ["x/rte 20/rate"]


def test_ratios_are_medians_of_rounds():
    rounds = [
        ({"seconds": 4.0, "only": 1.0}, {"seconds": 2.0, "none": 0.0}),
        ({"seconds": 9.0, "only": 1.0}, {"seconds": 3.0, "none": 0.0}),
        ({"seconds": 5.0, "only": 1.0}, {"seconds": 5.0, "none": 0.0}),
    ]
    assert commits.table(rounds) == [
        ("seconds", "5", "3", "2.00"),
        ("only", "1", "-", "-"),
        ("none", "-", "0", "-"),
    ]


def written(tmp_path, *texts):
    """Returns what `measure` says of a command that writes these JSON files."""
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "old.json").write_text("{}")
    lines = [f"open('benchmarks/results/{i}.json', 'w').write('{x}')" for i, x in enumerate(texts)]
    return commits.measure(["-c", "; ".join(lines)], tmp_path, tmp_path / "cache")


def test_numbers_of_equal_names_in_two_files_stay_apart(tmp_path):
    measured = written(tmp_path, '{"seconds": 7}', '{"seconds": 8}')
    assert measured.pop("seconds") < 5 and measured == {"0/seconds": 7, "1/seconds": 8}


def test_cases_of_one_name_are_told_apart_by_their_places(tmp_path):
    cases = '[{"model": "m", "rate": 1}, {"model": "m", "rate": 2}, {"model": "n", "rate": 3}]'
    measured = written(tmp_path, cases)
    assert measured.pop("seconds") < 5
    assert measured == {"0/m 0/rate": 1, "0/m 1/rate": 2, "0/n/rate": 3}


def test_a_study_is_swept_with_the_code_of_each_commit_without_a_cache(monkeypatch, tmp_path):
    """A package of the name stands in for spjax in each checkout, and says what it was given."""
    program = """
import json, os, pathlib, sys
cache = pathlib.Path(os.environ["SPJAX_CACHE"])
facts = {"new": int(not cache.exists()), "arguments": len(sys.argv), "commit": COMMIT}
cache.mkdir(parents=True)
pathlib.Path("benchmarks/results/sweep.json").write_text(json.dumps(facts))
"""
    roots = []

    @contextlib.contextmanager
    def checkout(commit, folder):
        (folder / "spjax").mkdir(parents=True)
        (folder / "benchmarks" / "results").mkdir(parents=True)
        text = program.replace("COMMIT", commit)
        (folder / "spjax" / "__main__.py").write_text(text)
        (folder / "spjax" / "__init__.py").touch()
        roots.append(folder)
        yield folder

    monkeypatch.setattr(commits, "checkout", checkout)
    shown = []
    monkeypatch.setattr(commits, "table", lambda rounds: shown.extend(rounds) or [("", "", "", "")])
    study = tmp_path / "x.gin"
    with pytest.raises(SystemExit):
        commits.main(["1", "2", f"--gin_file={study}"])
    study.touch()
    commits.main(["1", "2", "--rounds=2", f"--gin_file={study}"])
    facts = [[{**side, "seconds": 0} for side in pair] for pair in shown]
    side = {"seconds": 0, "sweep/new": 1, "sweep/arguments": 4}
    assert facts == [[side | {"sweep/commit": 1}, side | {"sweep/commit": 2}]] * 2
    assert len(set(roots)) == 2


@pytest.mark.slow
def test_a_command_runs_in_a_checkout_of_each_commit(repository, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    before = worktrees()
    commits.main(["HEAD", "HEAD", "--rounds=1", "--", "-c", SCRIPT])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("round 1: ")
    assert lines[1].split() == "HEAD HEAD before / after".split()
    assert ["speed/cases/m", "20", "x/rate", "2", "2", "1.00"] in [line.split() for line in lines]
    assert worktrees() == before


@pytest.mark.slow
def test_a_command_that_fails_says_what_it_printed_and_leaves_no_checkout(repository):
    before = worktrees()
    with pytest.raises(RuntimeError, match="sorry"):
        commits.main(["HEAD", "HEAD", "--rounds=1", "--", "-c", "raise SystemExit('so' + 'rry')"])
    assert worktrees() == before


def test_a_commit_that_is_none_is_named(repository):
    before = worktrees()
    with pytest.raises(SystemExit, match="cannot check out no-such-commit"):
        commits.main(["HEAD", "no-such-commit", "--", "-c", "1"])
    assert worktrees() == before


@pytest.mark.parametrize("more", [[], ["--gin_file=x.gin", "--", "-c", "1"]])
def test_either_a_command_or_a_study(more, capsys):
    with pytest.raises(SystemExit):
        commits.main(["HEAD", "HEAD", *more])
    assert "give either --gin_file or a command after --" in capsys.readouterr().err
