"""Labels that are lost as token ids are refused; losses of targets and inputs are counted."""

import json
import logging
from pathlib import Path

import pytest

from spjax.checkpoints.prompts.prompt import Prompt
from spjax.cli import main
from spjax.data import overview
from spjax.data.tasks import file_task, registry
from spjax.data.token_cache import cache, cache_files, coverage
from spjax.inference import prediction
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.vocabularies import vocabulary

POCKET, T5 = vocabulary.load_vocabulary("pocket"), vocabulary.load_vocabulary("t5")


@pytest.mark.parametrize(
    ("labels", "most", "message"),
    [
        (("Ω", "Ж"), 0, r"labels 'Ω' and 'Ж' are the same tokens in the vocabulary .*\(▁ <unk>\)"),
        (("good", "Ω"), 0, "the label 'Ω' is ▁ <unk> in the vocabulary .*no answer can be right"),
        (
            ("really bad", "really good"),
            2,
            (
                "'really bad' and 'really good' are the same when they are cut to 2 tokens, "
                "EOS included. Allow at least 3 target tokens with TASK_FEATURE"
            ),
        ),
        (("good", "really bad"), 2, "'really bad' has 3 tokens, EOS included, .* room for 2"),
        (("good", "really  bad"), 9, "'really  bad' reads 'really bad' once .* as it reads"),
        (("²", "good"), 9, "the label '²' reads '2' once"),
    ],
)
def test_labels_that_can_never_be_answered_are_refused(
    labels: tuple[str, ...], most: int, message: str
) -> None:
    for words in (T5,) if "²" in labels or not most else (T5, POCKET):
        with pytest.raises(ValueError, match=message):
            coverage.check_labels(labels, words, most)
    coverage.check_labels(("really bad", "really good"), POCKET, 3)
    with pytest.raises(ValueError, match="has 4 tokens"):
        coverage.check_labels(("good", "really bad"), POCKET, 3, sentinel=True)


def test_labels_of_all_tasks_pass_in_the_vocabularies_they_are_for() -> None:
    for name in registry.names():
        for variant in ("", ":sentinel"):
            info = registry.get(name + variant)
            words = vocabulary.load_vocabulary(info.vocabulary)
            coverage.check_labels(info.labels, words, info.target_length, info.sentinel)
            coverage.check_labels(info.class_labels, words)


def task_of(tmp_path: Path, rows: list[tuple[str, str]], **settings) -> file_task.FileTask:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"input": a, "target": b}) + "\n" for a, b in rows))
    here = {"validation": str(path), "test": str(path)}
    return file_task.FileTask(str(path), **here, **settings)


def losses(task: file_task.FileTask, words: vocabulary.Vocabulary) -> tuple[dict[str, int], str]:
    info, split = registry.get(task), "train"
    view = overview.View(words)
    ((_, counts, lengths),) = overview._losses(info, {split: overview.examples(info)[split]}, view)
    coverage.check(info, split, counts, lengths)
    return counts, coverage.line(info, split, counts, lengths)


def test_what_examples_lose_is_counted(tmp_path: Path) -> None:
    rows = [
        ("the bird", "the tree"),
        ("the Ω", "a Ж"),
        ("the Ж", "the end"),
        ("the bird sings in the old tree", "the bird sings in the old house"),
    ]
    counts, line = losses(task_of(tmp_path, rows, input_length=6, target_length=5), POCKET)
    assert counts == {
        "examples": 4,
        "inputs_cut": 1,
        "inputs_unknown": 2,
        "inputs_alike": 1,
        "targets_cut": 1,
        "targets_unknown": 1,
        "targets_lost": 2,
    }
    assert line == (
        "d/train, of 4 examples: 1 input longer than 6 tokens and cut; 2 inputs with pieces that "
        "the vocabulary lacks (<unk>); 1 input the same tokens as another text; 1 target longer "
        "than 5 tokens and cut; 1 target with pieces that the vocabulary lacks (<unk>); 2 targets "
        "that no answer can match."
    )
    assert losses(task_of(tmp_path, rows[:1] * 3), POCKET)[1] == ""


@pytest.mark.parametrize(
    ("metrics", "target", "lost"),
    [
        ((), "the bird sings in the tree", True),
        (("rouge",), "the bird sings in the tree", False),
        ((), "The tree!", False),  # as SQuAD's script reads it
        ((), "Ω", True),
        (("pearson_corrcoef",), "3.0", False),
        (("pearson_corrcoef",), "12.25", True),
    ],
)
def test_targets_that_no_answer_can_match_are_refused(
    metrics: tuple[str, ...], target: str, lost: bool, tmp_path: Path
) -> None:
    task = task_of(tmp_path, [("a", target), ("b", target)], metrics=metrics, target_length=5)
    if lost:
        with pytest.raises(ValueError, match="none of the 2 targets of d/train can ever be answ"):
            losses(task, POCKET)
    else:
        assert not losses(task, POCKET)[0]["targets_lost"]


def test_inputs_that_all_become_the_same_are_refused(tmp_path: Path) -> None:
    rows = [(f"the bird {letter}", "yes") for letter in "ΩЖФ"]
    with pytest.raises(ValueError, match="all 3 inputs of d/train are the same tokens.*3 hold"):
        losses(task_of(tmp_path, rows), POCKET)
    counts, line = losses(task_of(tmp_path, [*rows, ("a tree", "yes")]), POCKET)
    assert counts["inputs_alike"] == 2 and "2 inputs the same tokens as another text" in line


def test_targets_that_are_not_known_are_not_counted() -> None:
    info = registry.get("super_glue_rte_v102")
    counter = coverage.Counter(info, "test", T5, info.lengths)
    counter.add([5, 1], [2, 1], {"inputs_text": "a", "targets_text": "<unk>"})
    assert {n for n, count in counter.counts.items() if count} == {"examples"}


def test_the_builder_counts_and_every_reader_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("the bird Ω sings", "yes"), ("the bird", "no")] * 3
    task = task_of(tmp_path, rows, labels=("no", "yes"))
    with caplog.at_level(logging.WARNING):
        found = cache.load(task, "train", vocabulary="pocket")
        cache.load(task, "train", vocabulary="pocket")
    assert cache_files.read_counts(found.folder)["inputs_unknown"] == 3
    (line,) = (record.message for record in caplog.records)
    assert line.startswith("d/train, of 6 examples: 3 inputs with pieces that the vocabulary lacks")


def test_labels_to_rank_are_checked() -> None:
    placed = [prediction.PreparedPrompt(Prompt({}), labels=("Ω", "Ж"))]
    with pytest.raises(ValueError, match="'Ω' and 'Ж' are the same tokens"):
        prediction.check(get_size("pocket_50k"), placed, POCKET, Decoding("rank"), 9, 9)
    prediction.check(get_size("pocket_50k"), placed, POCKET, Decoding(), 9, 9)


def test_a_run_is_refused_before_it_has_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of(tmp_path, [("the bird", "really bad"), ("the tree", "really good")])
    gin = [
        f"--gin_file=gin_configs/{name}.gin"
        for name in ("models/pocket", "runs/pocket", "methods/prompt_tuning", "tasks/file")
    ]
    settings = [
        f"--gin.TASK_FILE='{task.path}'",
        f"--gin.TEST_FILE='{task.path}'",
        f"--gin.VALIDATION_FILE='{task.path}'",
        "--gin.MODEL_SIZE=pocket_50k",
        "--gin.TASK_LABELS=('really bad', 'really good')",
        "--gin.FileTask.target_length=2",
        f"--gin.MODEL_DIR='{tmp_path / 'run'}'",
    ]
    assert main.main(["train", *gin, *settings]) == 2
    assert "are the same when they are cut to 2 tokens" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.gin").exists()
    assert main.main(["tasks", *gin[-1:], *settings[:3], *settings[4:6]]) == 2
    out, err = capsys.readouterr()
    assert "example 1 of train" in out and "are the same when they are cut" in err
