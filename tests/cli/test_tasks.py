"""`spjax tasks`: the list, and what is shown of one task."""

import json
from pathlib import Path

import numpy as np
import pytest

from spjax.cli import main
from spjax.cli import tasks as tasks_command
from spjax.data import leaks, overview
from spjax.data.batching import batching
from spjax.data.tasks import file_task, registry
from spjax.data.token_cache import cache
from spjax.vocabularies import vocabulary

ROWS = [
    {"premise": " ".join(["the bird sings"] * (i % 9 + 1)) + f" {i}", "kind": i % 3}
    for i in range(300)
]
TEMPLATE = "premise: {premise}"


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    def run(*args: str) -> tuple[int, list[str], str]:
        code = main.main(["tasks", *args])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def own(data: str) -> list[str]:
    return [
        "--gin_file=gin_configs/tasks/file.gin",
        f"--gin.TASK_FILE='{data}'",
        f"--gin.TASK_TEMPLATE='{TEMPLATE}'",
        "--gin.TASK_TARGET='{kind}'",
        "--gin.TASK_LABELS=('zero', 'one', 'two')",
    ]


def test_columns_of_a_file_are_flags(call, data) -> None:
    code, lines, err = call(*own(data))
    assert code == 0, err
    flags = (f"--template={TEMPLATE}", "--target={kind}", "--labels=zero,one,two")
    assert call(data, *flags) == (0, lines, err)
    for name in ("pocket_cb", ""):
        code, _, err = call(*([name] if name else []), *flags)
        assert code == 2 and "--template is given, which says how the rows of a file" in err


def test_all_tasks_are_listed_each_in_a_line(call) -> None:
    code, lines, _ = call()
    first = [line.split(" ")[0] for line in lines]
    assert code == 0 and len(first) == len(set(first))
    assert {*registry.names(), *registry.mixture_names()} <= set(first)
    (rte,) = (line for line in lines if line.startswith("super_glue_rte_v102 "))
    assert max(map(len, lines)) <= 100
    for told in ("entailment, not_entailment", "2,490/277/3,000"):
        assert told in rte
    (pocket,) = (line for line in lines if line.startswith("pocket_cb "))
    assert "500/200/500" in pocket


def test_the_list_is_filtered(call) -> None:
    code, lines, _ = call("mrqa_bio")
    assert code == 0 and len(lines) == 2 and lines[1].startswith("mrqa_bio_asq_v100")
    code, lines, err = call("pocket_ctb")
    assert code == 2 and not lines and "unknown task 'pocket_ctb'. Did you mean" in err


def test_a_mixture_shows_its_rates(call) -> None:
    code, lines, _ = call("squad_to_mrqa")
    assert code == 0 and "  squad_v010_allanswers  1     100.0 %" in lines
    assert lines[-1].strip().startswith("mrqa_") and "  and also scored on" in lines


def test_a_file_shows_what_the_model_reads(call, data: str) -> None:
    code, lines, err = call(
        *own(data),
        "--model=pocket_50k",
        "--prompt_length=5",
        "--insertion=end",
        "--input_length=20",
        "--target_length=5",
    )
    assert code == 0 and not err
    text = "\n".join(lines)
    info = registry.get(
        file_task.FileTask(data, template=TEMPLATE, target="{kind}", labels=("zero", "one", "two"))
    )
    words = vocabulary.load_vocabulary("pocket")
    for split in file_task.SPLITS:
        rows = file_task.records(info.source, split)
        (row,) = (line for line in lines if line.split()[:2] == [split, str(len(rows))])
        for label in info.labels:
            share = np.mean([record["targets"] == label for record in rows])
            assert f"{label} {100 * share:.1f} %" in row
        longer = np.mean([len(words.encode(record["inputs"])) + 1 > 20 for record in rows])
        assert 0 < longer < 1 and f"{split} {100 * longer:.1f} %" in text
    assert "longer than 20 and cut: train" in text and "longer than 5 and cut: train" in text
    assert sum(int(line.split()[1]) for line in lines if line.endswith("#")) == 2 * len(ROWS)
    # The example in the row that batching makes of its ids.
    first = file_task.records(info.source, "train")[0]
    ids = words.encode(first["inputs"])
    ids = [words.piece(token) for token in ids[:19]]
    assert f"  encoder  {' '.join(ids)} [0 ... 4] </s>" in lines
    assert f"  input    {first['inputs']}" in lines and f"  target   {first['targets']}" in lines
    assert text.count("  encoder  ") == 3


def test_long_texts_are_shortened() -> None:
    words, info = vocabulary.load_vocabulary("pocket"), registry.get("pocket_cb:sentinel")
    pair = ("the old bird sings " * 200, "entailment")
    view = overview.View(words, prompt_length=1, input_length=500)
    text = overview.describe(info, {"train": [pair]}, view)
    assert max(map(len, text.splitlines())) < 800 and "(3799 characters)" in text
    assert "[0] ▁the ▁old" in text and "more) " in text and " <extra_id_0> " in text
    assert "not known" in overview.describe(
        registry.get("super_glue_rte_v102"), {"test": [("a", "<unk>")]}, view
    )
    assert "inputs: none" in overview.describe(info, {"train": []}, view)


def test_leaks_of_a_file_are_shown(call, data: str, tmp_path: Path) -> None:
    long = "the old bird sings in the tall tree by the river every morning of the week"
    rows = [*ROWS[:2], {"premise": long, "kind": 1}, {"premise": long + " now", "kind": 1}]
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path(data).write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, rows[2]]))
    more = [f"--gin.TEST_FILE='{test}'", f"--gin.VALIDATION_FILE='{data}'", "--leaks"]
    code, lines, _ = call(*own(data), *more)
    (row,) = (line for line in lines if line.split()[:2] == ["test", "train"])
    assert code == 0 and "3 (75.0 %)" in row and "1 (25.0 %)" in row
    assert f"  premise: {long} now" in lines
    code, _, err = call(*own(data), "--near=0.5")
    assert code == 2 and "--near=0.5 is how alike inputs are that --leaks looks for" in err
    code, _, err = call(*own(data), "--leaks", "--near=2")
    assert code == 2 and "the least likeness is 2.0" in err


def test_a_task_without_records_says_what_to_do(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(tasks, *_, **__) -> None:
        raise ValueError(f"TFDS has not prepared {tasks[0].source}; run `tfds build`")

    monkeypatch.setattr(cache, "ensure", ensure)
    code, lines, err = call("super_glue_rte_v102")
    assert code == 2 and "run `tfds build`" in err
    assert "  metrics     accuracy" in lines, "what is known without records is told"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["pocket_cb", "--gin_file=gin_configs/tasks/file.gin"], "both 'pocket_cb' and gin files"),
        (["--gin_file=gin_configs/tasks/file.gin", "--gin.TASK_FILE=a.csv"], "cannot read 'a.csv'"),
        (
            ["a.csv", "--target={y}", "--gin.TASK_LABELS=('a',)"],
            "is given with --target; leave one",
        ),
        (["--gin.TASK_FILE=a.jsonl"], "'TASK_FILE=a.jsonl' is given and no gin file"),
        (["a.jsonl", "--gin.TASK_LABELS=('a',)"], "add --gin_file=gin_configs/tasks/file.gin"),
        (["--leaks"], "--leaks looks into one task, and '' is none"),
        (["squad_to_mrqa", "--leaks"], "into one task, and 'squad_to_mrqa' is none; give the name"),
        (["pocket_cb", "--input_length=1"], "--input_length is 1; it must be at least 2"),
        (["absent.jsonl"], "cannot read 'absent.jsonl'"),
    ],
)
def test_mistakes(call, args: list[str], message: str) -> None:
    code, _, err = call(*args)
    assert code == 2 and message in err


def test_a_misspelt_setting_is_refused(call, data: str) -> None:
    code, lines, err = call(*own(data), "--gin.TASK_LABLES=('a',)")
    assert code == 2 and "nothing uses the binding 'TASK_LABLES'; did you mean 'TASK_LABELS'" in err
    code, lines, err = call(*own(data), "--gin.X=1")
    assert code == 2 and not lines and "nothing uses the binding 'X'" in err


def test_choices_are_those_of_the_library() -> None:
    assert tasks_command._INSERTIONS == batching.INSERTIONS
    assert tasks_command._NEAR == leaks.NEAR


def test_options_of_beam_with_half_a_quote(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["cache", "--corpus=c4", "--vocabulary=pocket", "--beam", "--pipeline_options='"]
    assert main.main(argv) == 2
    err = capsys.readouterr().err
    assert "No closing quotation. Write it as for a shell, quotes in pairs" in err
