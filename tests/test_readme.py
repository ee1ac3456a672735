"""The commands of the README and of the headers of gin files are valid."""

import json
import re
import shlex
from pathlib import Path

import pytest

from spjax import config
from spjax.cli import main
from spjax.studies.hardware import topologies
from spjax.studies.study import load_study

ROOT = Path(__file__).parent.parent


def commands(path):
    """Every `spjax ...` command of a file, continued lines joined, comment signs dropped."""
    text = re.sub(r"\\\n#?\s*", " ", path.read_text())
    kinds = r"(?:train|sweep|pretrain) --|plan \S+ --topology="
    texts = re.findall(rf"(?:\.venv/bin/)?spjax ((?:{kinds})[^\n`#|]*)", text)
    return [shlex.split(command) for command in texts]


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.rglob("*.gin"))]
CASES = [
    pytest.param(command, id=f"{page.name}: {' '.join(command)[:60]}")
    for page in PAGES
    if ".venv" not in page.parts and "results" not in page.parts
    for command in commands(page)
]


def test_there_are_commands():
    assert len(CASES) >= 6


@pytest.mark.parametrize("command", CASES)
def test_command(command, monkeypatch, capsys, tmp_path, checkpoint):
    monkeypatch.chdir(tmp_path)  # gin files are found in the clone all the same
    rows = [{"input": f"a film of {i} hours", "target": "negative"} for i in range(100)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "pocket/search.gin" in " ".join(command) or "Search." in " ".join(command):
        pytest.importorskip("optuna", reason="the extra optuna is not installed")
    if command[0] == "sweep":
        for study in re.findall(r"--reuse=(\S+)", " ".join(command)):
            (tmp_path / study / "runs").mkdir(parents=True)
            (tmp_path / study / "study.gin").touch()
        if "graded_pretraining" in " ".join(command):  # runs in the clone, which has its weights
            (tmp_path / "experiments").symlink_to(ROOT / "experiments")
        if "lester2021" in " ".join(command):  # published checkpoints are not at hand
            command = [*command, f"--gin.CHECKPOINTS={{'default': {checkpoint!r}}}"]
        assert main.main([*command, *([] if "--dry_run" in command else ["--dry_run"])]) == 0
        assert "runs" in capsys.readouterr().out
        return
    args = main.make_parser().parse_args(main.rewrite_gin_flags(command))
    if command[0] == "plan":  # compiles for minutes
        study, _ = load_study(args.gin_file, args.gin_bindings)
        assert study.arms and topologies.parse(args.topology).count
        return
    name = "Run" if command[0] == "train" else "Pretrain"
    value, folder = config.load_with_folder(name, args.gin_file, args.gin_bindings)
    assert value and folder


@pytest.mark.parametrize("script", re.findall(r"\./(scripts/\w+\.sh)", PAGES[0].read_text()))
def test_script(script):
    assert (ROOT / script).is_file() and (ROOT / script).stat().st_mode & 0o100
