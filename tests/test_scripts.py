"""The installer leaves an environment that it did not make alone."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Stands in for .venv/bin/python; its arguments go to a file.
PYTHON = """#!/bin/sh
echo "$*" >>.venv/calls
case "$*" in
  *version_info*) exit {old} ;;
  "-m pip --version") [ -e .venv/pip ] ;;
  "-m ensurepip") {ensurepip} ;;
esac
"""


def install(folder, old=0, ensurepip="touch .venv/pip"):
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "mine").touch()
    for name in ("setup.py", "pyproject.toml"):
        (folder / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text(PYTHON.format(old=old, ensurepip=ensurepip))
    python.chmod(0o755)
    command = ["bash", "-c", f"set -euo pipefail; source {ROOT}/scripts/install.sh test"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (folder / ".venv" / "mine").exists()
    return done, (folder / ".venv" / "calls").read_text()


def test_a_missing_pip_is_added(tmp_path):
    done, calls = install(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "-m ensurepip\n" in calls and "--editable .[test]" in calls


@pytest.mark.parametrize(
    "options, message",
    [
        ({"old": 1}, "no working Python 3.11 or newer; move or delete it"),
        ({"ensurepip": "exit 1"}, "has no pip, and ensurepip cannot install it; install pip there"),
    ],
)
def test_an_unusable_environment_is_told_and_kept(tmp_path, options, message):
    done, calls = install(tmp_path, **options)
    assert done.returncode == 1 and f"{tmp_path}/.venv" in done.stderr and message in done.stderr
    assert "install" not in calls.replace("ensurepip", "")
