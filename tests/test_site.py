"""The documentation site builds without a warning, and has its pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text()
    assert all(
        (tmp_path / image).is_file() for image in re.findall(r'<img[^>]*src="([^"]+)"', start)
    )
    python = (tmp_path / "reference/python/index.html").read_text()
    assert "spjax.api.training.train" in python and "__post_init__" not in python
    one_return = " ".join(re.sub("<[^>]+>", "", python).split())
    assert "of several prompts a list of these under prompts" in one_return
    gin = (tmp_path / "reference/gin/index.html").read_text()
    for name in ("Run", "PromptTuning", "Study", "Slurm", "Pretrain"):
        assert f'id="{name.lower()}"' in gin
    assert "spjax sweep" in (tmp_path / "reference/command_line/index.html").read_text()


def test_every_page_of_docs_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": ([\w/]+\.md)$", text, re.MULTILINE))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= named
