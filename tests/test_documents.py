"""The Python of README, docs/ and the notebooks runs, with a small model and few steps."""

import json
import re
from pathlib import Path

import jax
import pytest

from spjax import methods

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
_SMALLER = {
    r'"hf://google/flan-t5-base", dtype="bfloat16"': '"pocket_50k"',
    r"pocket_(800k|200k)": "pocket_50k",
    r"steps=\d+": "steps=2",
    r"range\(100\)": "range(2)",
    r"STEPS = \d+": "STEPS = 2",
    r"LENGTHS = .*": "LENGTHS = [2]",
    # One process, which compiles once what the runs of a study share.
    r'{"TRAIN_STEPS": STEPS}': '{"TRAIN_STEPS": STEPS, "Run.eval_examples": 8}, workers=1',
}


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def cells(notebook):
    """Source of the code cells of a notebook."""
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def in_a_new_folder(tmp_path, monkeypatch, few_examples):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "__path__", list(methods.__path__))
    monkeypatch.setenv("SPJAX_METHODS", "")
    rows = [{"input": f"the box number {i} is red", "target": "True"} for i in range(60)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of worker processes


def run(sources):
    names = {}
    for source in sources:
        for pattern, smaller in _SMALLER.items():
            source = re.sub(pattern, smaller, source)
        with jax.numpy_dtype_promotion("standard"):  # as users have it
            exec(compile(source, "example", "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_new_folder")
@pytest.mark.parametrize(
    "page", ["README.md", "docs/python.md", "docs/tutorial.md", "docs/peft.md"]
)
def test_page(page):
    names = run(blocks(ROOT / page))
    assert names["run"].status == "finished" and (names["run"].folder / "result.json").is_file()
    if page == "docs/peft.md":
        run(blocks(ROOT / page))  # in the same folder


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_new_folder")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook):
    run(cells(notebook))
    assert any(Path().iterdir())


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 2
