"""A user's own files become a task, and bad rows are named before anything is trained."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from spjax import config
from spjax.checkpoints.prompts import prompt_files
from spjax.cli import main
from spjax.data.tasks import file_rows, file_task, registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.token_cache import cache
from spjax.inference import prediction
from spjax.training.run import Run
from spjax.vocabularies import vocabulary

pytestmark = pytest.mark.usefixtures("few_examples")

ROWS = [{"input": f"the {i} é birds", "target": ("no", "yes")[i % 2]} for i in range(200)]
LABELS = {"labels": ("no", "yes")}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Rows as the ending of the path says."""
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return str(path)


def examples(task: FileTask) -> dict[str, list[Any]]:
    source = registry.get(task).source
    return {split: list(file_task.records(source, split)) for split in file_task.SPLITS}


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_all_kinds_of_files_give_the_same_examples(ending: str, tmp_path: Path) -> None:
    rows = [*ROWS, {"input": 'quotes ", commas,\nand lines', "target": "no"}]
    task = FileTask(write(tmp_path / f"data{ending}", rows))
    found = examples(task)
    made = [(row["inputs"], row["targets"]) for split in found.values() for row in split]
    assert sorted(made) == sorted((row["input"], row["target"]) for row in rows)
    order = {split: [row["idx"] for row in found[split]] for split in found}
    assert all(places == sorted(places) for places in order.values())
    info = registry.get(task)
    assert info.sizes == tuple(map(len, found.values())) and min(info.sizes[1:]) > 8
    assert (info.name, info.metrics, info.postprocess) == ("data", ("squad",), "qa")


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_templates_and_labels_by_word_or_number(ending: str, tmp_path: Path) -> None:
    rows = [{"a": f"x{i}", "b b": "{y}", "label": i % 2} for i in range(100)]
    path = write(tmp_path / f"data{ending}", rows)
    task = FileTask(path, template="{{a}}: {a} b: {b b}", target="{label}", labels=["no", "yes"])
    made = [row for split in examples(task).values() for row in split]
    assert len(made) == 100
    for row in made:
        number = int(row["inputs"].split()[1][1:])
        assert row["inputs"] == f"{{a}}: x{number} b: {{y}}"
        assert (row["label"], row["targets"]) == (number % 2, LABELS["labels"][number % 2])
    info = registry.get(task)
    assert info.labels == ("no", "yes") and info.metrics == ("accuracy",)


def test_labels_are_read_in_every_way(tmp_path: Path) -> None:
    answers = ["yes", 1, "1", 1.0, True]
    rows = [{"input": f"{i}", "target": answers[i % 5]} for i in range(100)]
    made = examples(FileTask(write(tmp_path / "d.jsonl", rows), **LABELS))
    assert {row["targets"] for split in made.values() for row in split} == {"yes"}
    digits = examples(
        FileTask(write(tmp_path / "d.jsonl", rows[1:2] * 9), **held(tmp_path), labels=("1", "0"))
    )
    assert digits["train"][0]["label"] == 0, "a word goes before a number"


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_numbers_that_are_labels_go_before_places_however_stored(
    ending: str, tmp_path: Path
) -> None:
    def numbers(values: list[Any], labels: tuple[str, ...]) -> list[int]:
        rows = [{"input": f"text {i}", "target": value} for i, value in enumerate(values)]
        path = write(tmp_path / f"d{ending}", rows)
        task = FileTask(path, labels=labels, **held(tmp_path, target=labels[0]))
        return [row["label"] for row in examples(task)["train"]]

    ratings = ("1", "2", "3", "4", "5")
    assert numbers([1, 2, 4], ratings) == numbers([1.0, 2.0, 4.0], ratings) == [0, 1, 3]
    for labels in (("True", "False"), ("true", "false"), ("1", "0")):
        assert numbers([True, False], labels) == [0, 1]
    assert numbers([True, False], ("no", "yes")) == [1, 0]


def test_targets_of_a_correlation_are_numbers(tmp_path: Path) -> None:
    score = {"metrics": ("pearson_corrcoef", "spearman_corrcoef"), **held(tmp_path)}
    rows = [{"input": f"text {i}", "target": value} for i, value in enumerate((3.5, 2, "-1e3"))]
    made = examples(FileTask(write(tmp_path / "d.jsonl", rows), **score))["train"]
    assert [row["targets"] for row in made] == ["3.5", "2", "-1e3"]
    for i, bad in enumerate(("n/a", "nan", float("inf"))):
        path = write(tmp_path / f"{i}.jsonl", [*rows, {"input": "a", "target": bad}])
        with pytest.raises(ValueError, match="1 of 6 rows.*\n.*:7: the target is '.*finite number"):
            FileTask(path, **score)
    with pytest.raises(ValueError, match="'target' is True; it must be a text"):
        FileTask(write(tmp_path / "d.jsonl", [{"input": "a", "target": True}]), **score)


def test_long_cells_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"input": "word " * 40_000, "target": "a"}, ROWS[0]]
    write(tmp_path / "d.csv", rows)
    monkeypatch.setenv("HOME", str(tmp_path))
    task = FileTask("~/d.csv", **held(tmp_path))
    assert [row["inputs"] for row in examples(task)["train"]] == [r["input"] for r in rows]


@pytest.mark.parametrize("name", ["...jsonl", "..jsonl"])
def test_a_task_is_not_named_as_the_folder_above(name: str, tmp_path: Path) -> None:
    assert str(FileTask(write(tmp_path / name, ROWS))) == "_"


def test_a_number_that_is_none_of_the_labels_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"input": "a film", "target": 0}\n' * 40)
    with pytest.raises(ValueError, match="'target' is 0; it must be 1, 2, 3"):
        FileTask(str(tmp_path / "r.jsonl"), labels=("1", "2", "3"))


def held(folder: Path, target: str = "1") -> dict[str, str]:
    """Files for validation and test, so that one of few rows will do."""
    paths = {split: folder / f"{split}.jsonl" for split in ("validation", "test")}
    for split, path in paths.items():
        write(path, [{"input": split, "target": target}])
    return {split: str(path) for split, path in paths.items()}


GOOD = b'{"input": "a", "target": "yes"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", GOOD + b"nonsense\n", r"d.jsonl:2: not a JSON object \(Expecting value"),
        ("d.jsonl", GOOD + b"\n\n[1]\n", r"d.jsonl:4: expected a JSON object, found \[1\]"),
        (
            "d.json",
            json.dumps(ROWS[:3], indent=2).encode(),
            r"to the end.*\n.*d.json:1: .*; write one object on each line.* was not read$",
        ),
        (
            "d.json",
            GOOD + json.dumps(ROWS[0], indent=2).encode(),
            "cannot be read to the end.*\n.*d.json:2: ",
        ),
        (
            "d.json",
            b"[" + GOOD[:-1] + b",\n" + GOOD + b"]",
            "cannot be read to the end.*\n.*:1: .* each line",
        ),
        (
            "d.csv",
            b'input,target\n"Hi" he said,y\n',
            'd.csv:2: not CSV .*a cell that begins with " ends with one',
        ),
        ("d.tsv", b'input\ttarget\n"Hi" he said\ty\n"a ""b"" c"\ty\n', "d.tsv:2: not CSV"),
        (
            "d.tsv",
            b'input\ttarget\n"a\tx\nb\ty\nc"\tz\nd\n',
            "d.tsv:2: a quoted cell begins here in which each line would be a whole row: .* not",
        ),
        ("d.csv", b'input,target\na,x\n"a,x\nb,y\nc",z\n', "d.csv:3: a quoted cell begins here"),
        (
            "d.csv",
            b"input;target\na;b\n",
            (
                "'input;target': its columns stand between semicolons; "
                "save the file with commas as .csv"
            ),
        ),
        ("d.csv", b'"input";"target"\n"a";"b"\n', "stand between semicolons"),
        ("d.csv", b"input\ttarget\na\tb\n", "stand between tabs"),
        ("d.tsv", b"input,target\na,b\n", "stand between commas"),
        (
            "d.csv",
            "input,target\na,b\n".encode("utf-16"),
            "d.csv' is UTF-16 text; save it as UTF-8",
        ),
        ("d.jsonl", GOOD + b'{"input": "\xff"}', "d.jsonl:2: not UTF-8 text"),
        ("d.jsonl", b"[" * 99_999, "d.jsonl:1: nested too deeply"),
        (
            "d.jsonl",
            b'{"inputs": "a", "target": "b"}',
            "no field 'input', only 'inputs', 'target'; did you mean 'inputs'",
        ),
        ("d.jsonl", b'{"input": " ", "target": "b"}', "the field 'input' is empty"),
        ("d.jsonl", b'{"input": "a", "target": ""}', "the field 'target' is empty"),
        ("d.jsonl", b'{"input": null, "target": "b"}', "'input' is None; it must be a text"),
        ("d.jsonl", b'{"input": "a", "target": 3}', "'target' is 3; it must be a text"),
        ("d.jsonl", b'{"input": "\\ud800", "target": "b"}', "half of a surrogate pair"),
        ("d.csv", b"input,target\na,b\na\n", "d.csv:3: 1 cells, but the header has 2"),
        ("d.csv", b'input,target\n"a\nb",c\n\na,b,c\n', "d.csv:5: 3 cells"),
        ("d.csv", b'input,target\na,b\n"a,b\nc,d\n', "d.csv:3: not CSV .unexpected end of data"),
        ("d.csv", b"input,target\n\xe9,b\n", "d.csv:2: not UTF-8 text"),
        ("d.csv", b"input,targe\na,b\n", "d.csv has no field 'target'.*did you mean 'targe'"),
        ("d.csv", b"input,target,input\na,b,c\n", "d.csv:1: the column 'input' occurs 2 times"),
        ("d.csv", b"input,target\na,\n", "d.csv:2: the field 'target' is empty"),
        ("d.csv", b"input,target\n", "d.csv has no rows"),
        ("d.jsonl", b"", "d.jsonl has no rows"),
        ("d.parquet", GOOD, "is not a Parquet file"),
        ("d.txt", GOOD, "ends in '.txt'; give one of .jsonl, .json"),
    ],
)
def test_a_bad_row_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        FileTask(str(tmp_path / name))


def test_a_tsv_file_without_quoting_keeps_its_rows(tmp_path: Path) -> None:
    texts = ['"to be', "or not", 'to be"', '"that is"', 'the "question"'] * 40
    rows = [
        (f"{text} {i}" if text[0] != '"' else text, "no yes".split()[i % 2])
        for i, text in enumerate(texts)
    ]
    path = tmp_path / "d.tsv"
    path.write_text("input\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    made = [row for split in examples(FileTask(str(path), **LABELS)).values() for row in split]
    assert sorted((row["inputs"], row["targets"]) for row in made) == sorted(rows)


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("columns", [2, 3])
def test_quoted_cells_of_several_lines_stay_whole(
    ending: str, columns: int, tmp_path: Path
) -> None:
    texts = [
        "It cost 1,000\nand\tmore",
        "one, two\nthree",
        'he said "no\nno"',
        "a\nb",
        "plain",
        "x, y",
        "\n\nlines\n",
        "a\tb\nc\td",
        "1,5\n2,5",
        '"so"',
    ]
    table = pandas.DataFrame({"input": texts, "target": ["no", "yes"] * 5})
    if columns == 3:
        table.insert(0, "", range(10))  # as Pandas writes its index
    path = tmp_path / f"d{ending}"
    table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    made = examples(FileTask(str(path), **LABELS, **held(tmp_path, target="no")))["train"]
    assert [(row["inputs"], row["targets"]) for row in made] == list(zip(texts, table["target"]))


def test_a_bad_row_of_parquet_is_named(tmp_path: Path) -> None:
    rows = [*ROWS[:3], {"input": "a", "target": None}]
    with pytest.raises(ValueError, match="d.parquet, row 4: the field 'target' is None"):
        FileTask(write(tmp_path / "d.parquet", rows))
    with pytest.raises(ValueError, match=r"d.parquet has no field 'x', only 'input', 'target'"):
        FileTask(str(tmp_path / "d.parquet"), template="{x}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("yess", "'target' is 'yess'; it must be no, yes or a number from 0 to 1; did you mean"),
        (2, "'target' is 2; it must be no, yes"),
        (-1, "'target' is -1; it must be"),
        (0.5, "'target' is 0.5; it must be"),
        (None, "'target' is None; it must be"),
        ("²", "'target' is '²'; it must be"),
    ],
)
def test_an_unknown_label_is_named(target: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"input": "a", "target": target}])
    with pytest.raises(ValueError, match=message):
        FileTask(path, **LABELS)


def test_the_first_ten_bad_rows_of_all_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [*ROWS[:5], *[{"input": i} for i in range(8)]])
    other = write(tmp_path / "v.csv", [{"input": "a", "target": ""}] * 4)
    with pytest.raises(ValueError, match=r"12 of 17 rows cannot be used") as raised:
        FileTask(path, validation=other)
    lines = str(raised.value).splitlines()
    assert len(lines) == 12 and lines[-1] == "- and 2 more"
    assert lines[1].startswith(f"- {path}:11: ") and lines[9].startswith(f"- {other}:2: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "FileTask.path has no value"),
        ({"path": "absent.jsonl"}, "cannot read 'absent.jsonl': No such file.*working directory"),
        ({"template": "input"}, "template is 'input', which names no column"),
        ({"template": "{input"}, "template is '{input': expected '}'"),
        ({"template": "{}"}, "between braces stands the name of a column"),
        ({"template": "{input!r}"}, "between braces stands the name of a column"),
        ({"target": "a {target}", **LABELS}, "with labels it must be one column and nothing else"),
        ({"labels": ("a", "a")}, "different words, none empty"),
        ({"labels": ("a", "")}, "different words, none empty"),
        ({"metrics": "accuracy"}, r"metrics is \('accuracy',\); without labels, either squad; or"),
        (
            {"metrics": ("accuracy", "mean_3class_f1"), **LABELS},
            "has 'mean_3class_f1', which is for 3 labels, but FileTask.labels has 2; use accuracy",
        ),
        (
            {"metrics": "f1_with_invalid", "labels": ("no", "yes", "maybe")},
            "'f1_with_invalid', which is for 2 labels, but FileTask.labels has 3",
        ),
        ({"metrics": ("squad",), **LABELS}, "with labels accuracy, f1_with_invalid"),
        ({"metrics": ("squad", "rouge")}, "without labels, either squad; or rouge, bleu; or"),
        ({"input_length": 1}, "input_length is 1; it must be a whole number of at least 2"),
        ({"name": "a/b"}, "name is 'a/b'; use letters"),
        ({"name": ".."}, r"name is '\.\.'; .* and not dots alone"),
        ({"sha256": "0"}, r"data.jsonl has changed: its SHA-256 is \w+ and was 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    with pytest.raises(ValueError, match=message):
        FileTask(**{"path": path, **settings})


def test_equal_inputs_share_a_split_and_stay_in_it(tmp_path: Path) -> None:
    rows = [{"input": f"text {i}", "target": "a"} for i in range(1000)]
    first = examples(FileTask(write(tmp_path / "a.jsonl", rows)))
    sizes = {split: len(first[split]) for split in first}
    assert 70 < sizes["validation"] < 130 and 70 < sizes["test"] < 130
    more = [{"input": row["input"].upper().replace(" ", "  "), "target": "b"} for row in rows]
    second = examples(FileTask(write(tmp_path / "b.jsonl", rows + more)))
    for split in first:
        texts = {row["inputs"] for row in first[split]}
        assert {" ".join(row["inputs"].lower().split()) for row in second[split]} == texts
        assert len(second[split]) == 2 * len(texts)
    own = FileTask(str(tmp_path / "a.jsonl"), test=str(tmp_path / "b.jsonl"))
    third = examples(own)
    assert len(third["test"]) == 2000 and third["validation"] == first["validation"]
    assert len(third["train"]) == sizes["train"] + sizes["test"]


def test_too_few_rows_to_hold_out(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ROWS[:1])
    with pytest.raises(
        ValueError, match="1 rows, too few to hold out 10% .*none is left for .*VALIDATION_FILE"
    ):
        FileTask(path)
    assert registry.get(FileTask(path, **held(tmp_path))).sizes == (1, 1, 1)


def test_the_content_is_part_of_a_run(tmp_path: Path) -> None:
    path = write(tmp_path / "my data.jsonl", ROWS)
    gin = [
        "gin_configs/models/pocket.gin",
        "gin_configs/tasks/file.gin",
        "gin_configs/runs/pocket.gin",
        "gin_configs/methods/prompt_tuning.gin",
    ]
    bindings = ["MODEL_SIZE = pocket_50k", f"TASK_FILE = '{path}'", "TASK_LABELS = ['no', 'yes']"]
    run = config.load("Run", gin, bindings)
    assert run.task == FileTask(path, **LABELS) and str(run.task) == "my_data"
    text = config.config_str(run)
    (tmp_path / "config.gin").write_text(text)
    assert config.load("Run", [tmp_path / "config.gin"]) == run
    short = config.load("Run", gin[:1] + gin[2:], [bindings[0], f"MIXTURE_OR_TASK_NAME = '{path}'"])
    assert short.task == FileTask(path)
    key = config.run_key(run)
    write(tmp_path / "my data.jsonl", ROWS[:-1])
    with pytest.raises(ValueError, match="my data.jsonl has changed"):
        config.load("Run", [tmp_path / "config.gin"])
    assert config.run_key(config.load("Run", gin, bindings)) != key
    write(tmp_path / "my data.jsonl", [*ROWS, {"input": 1}, {"input": 2}])
    with pytest.raises(ValueError, match=r"2 of 202 rows.*\n- .*data.jsonl:401: the.*\n- .*:403:"):
        config.load("Run", gin, bindings)


def test_variants_follow_the_path(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ROWS)
    info = registry.get(f"{path}:n8:balanced:seed3:sentinel")
    assert info.name == "d:n8:balanced:seed3:sentinel"
    assert info.few_shot.examples == 8 and info.few_shot.balanced and info.sentinel
    assert info.whole == registry.get(f"{path}:sentinel") == registry.get(info.source)
    assert registry.mixture(FileTask(f"{path}:n8")).trained[0].few_shot.examples == 8
    with pytest.raises(ValueError, match="unknown variant 'x'"):
        registry.get(f"{path}:x")
    with pytest.raises(ValueError, match="no validation split in TFDS"):
        registry.get(f"{path}:halves")
    with pytest.raises(ValueError, match="unknown task 'd.txt'.*if it ends in .jsonl"):
        registry.get("d.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


def test_from_a_file_to_a_trained_prompt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder / "my-data.csv", ROWS)
    task = FileTask(path, **LABELS, target_length=8)
    sentinel = registry.get(f"{path}:sentinel:n20")
    lengths = {"inputs": task.input_length, "targets": task.target_length}
    pocket = vocabulary.load_vocabulary("pocket")
    # All caches by one start of TensorFlow; the run below finds its own.
    tasks = [(registry.get(task), split) for split in file_task.SPLITS] + [(sentinel, "train")]
    cache.ensure_all((info, split, lengths, "pocket") for info, split in tasks)
    for info, split in tasks:
        cached = cache.load(info, split, lengths, vocabulary="pocket")
        expected = file_task.records(info.source, split)
        assert cached.num_examples == (20 if info is sentinel else len(expected))
        mark = [pocket.sentinel(0)] if info is sentinel else []
        for number, fields in enumerate(cached.examples):
            if info is not sentinel:
                assert fields["idx"] == expected[number]["idx"]
            text = fields["targets_text"]
            assert cached.inputs[number].tolist() == [*pocket.encode(fields["inputs_text"]), 1]
            assert cached.targets[number].tolist() == [*mark, *pocket.encode(text), 1]
    settings = [
        f"--gin.TASK_FILE='{path}'",
        "--gin.TASK_LABELS=('no', 'yes')",
        "--gin.FileTask.target_length=8",
        "--gin.MODEL_SIZE=pocket_50k",
        "--gin.TRAIN_STEPS=2",
        "--gin.EVAL_PERIOD=2",
        "--gin.PROMPT_LENGTH=3",
        f"--gin.MODEL_DIR='{folder / 'run'}'",
    ]
    names = ("models/pocket", "runs/pocket", "methods/prompt_tuning", "tasks/file")
    gin = [f"--gin_file=gin_configs/{name}.gin" for name in names]
    assert main.main(["train", *gin, *settings]) == 0
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["task"] == "my-data" and result["test"].keys() == {"accuracy", "score"}
    capsys.readouterr()
    prompt = str(folder / "run" / "prompt.npy")
    assert main.main(["eval", f"--prompt={prompt}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["task"] == "my-data" and found["score"] == result["test"]["score"]
    Path(path).rename(folder / "moved.csv")  # to answer, its file is not needed
    stored = prompt_files.read_soft_tokens(prompt)
    assert prediction.task_of(stored).labels == ("no", "yes")
    (folder / "in.txt").write_text("the 3 birds\nthe 4 birds\n")
    asked = ["predict", str(folder / "in.txt"), f"--prompt={prompt}", "--decoding=rank"]
    assert main.main(asked) == 0
    assert set(capsys.readouterr().out.split()) <= {"no", "yes"}
    assert main.main(["eval", f"--prompt={prompt}"]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path) -> None:
    path = write(folder / "d.jsonl", ROWS)
    info = registry.get(path)
    write(folder / "d.jsonl", ROWS[1:])
    with pytest.raises(ValueError, match="d.jsonl has changed"):
        registry.get(info.source)  # as the process that builds caches does


def test_a_run_takes_a_task_of_either_kind() -> None:
    kinds = {field.name: field.type for field in dataclasses.fields(Run)}
    assert kinds["task"] == "str | FileTask"


def test_a_row_with_a_comma_does_not_hide_that_its_quotation_mark_swallows_others(tmp_path):
    rows = ['"c, and d,bad', "e,good", "f,bad", 'g",good', "h,bad"]
    (tmp_path / "a.csv").write_text("\n".join(["input,target", *rows]) + "\n")
    (row,) = file_rows.read(tmp_path / "a.csv", ("input", "target"))
    assert row.location == ":2" and "written without quoting" in row.problem


def test_a_doubled_quotation_mark_further_down_does_not_hide_it_either(tmp_path):
    rows = ['"c\tbad', "e\tgood", 'f"\tbad', "g\tgood", '"h ""i"" j"\tbad']
    (tmp_path / "a.tsv").write_text("\n".join(["input\ttarget", *rows]) + "\n")
    (row,) = file_rows.read(tmp_path / "a.tsv", ("input", "target"))
    assert row.location == ":2" and "written without quoting" in row.problem
