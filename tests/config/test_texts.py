"""Bare texts on the command line, and gin files that are no gin files of ours."""

import shlex

import pytest

from spjax import config
from tests.config.small_run import FILES, NEEDED, ROOT

pytestmark = pytest.mark.usefixtures("in_clone")


def folder_of(value):
    return config.load_with_folder("Run", FILES, [*NEEDED, f"MODEL_DIR={value}"])[1]


@pytest.mark.parametrize(
    "text", ["2024-12-31", "2024_12_31", "7.50", "3.2.1", "007", "1e5", "a b", "lr=0.3", "True"]
)
def test_a_folder_is_called_what_was_written(text):
    assert folder_of(text) == text
    assert folder_of(f"'{text}'") == text


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of("~/runs/b") == str(tmp_path / "runs" / "b")
    run = config.load("Run", FILES, [*NEEDED, "INITIAL_CHECKPOINT_PATH=~/x.safetensors"])
    assert run.checkpoint == str(tmp_path / "x.safetensors")
    (tmp_path / "more.gin").write_text("SEED = 4\n")
    assert config.load("Run", [*FILES, "~/more.gin"], NEEDED).seed == 4
    assert config.load("Run", [*FILES, "more.gin"], NEEDED, ["~"]).seed == 4


def test_texts_reach_settings_through_macros(tmp_path):
    data = tmp_path / "7rows.jsonl"
    data.write_text("".join(f'{{"input": "{i}", "target": "a"}}\n' for i in range(100)))
    files = [*FILES, "gin_configs/tasks/file.gin"]
    run = config.load("Run", files, [NEEDED[0], f"TASK_FILE={data}"])
    assert run.task.path == str(data)
    with pytest.raises(ValueError, match="cannot read '7_0.jsonl'"):
        config.load("Run", files, [NEEDED[0], "TASK_FILE=7_0.jsonl"])
    run = config.load("Run", FILES, [*NEEDED, "INITIAL_CHECKPOINT_PATH=20_25"])
    assert run.checkpoint == "20_25"
    assert config.load("Run", FILES, [*NEEDED, "TRAIN_STEPS=1_000"]).steps == 1000


def test_numbers_that_go_on_are_no_numbers():
    assert config.split_binding("A=2024-12-31") == ("A", "'2024-12-31'")
    with pytest.raises(ValueError, match="Run.steps is '2024-12-31'; it must be a whole number"):
        config.load("Run", FILES, [*NEEDED, "TRAIN_STEPS=2024-12-31"])


@pytest.mark.parametrize("text", ["{title}: {text}", "{text}", "a: {b c} {d}", "[a] {b}"])
def test_a_template_needs_no_quotes(text):
    assert config.split_binding(f"X={text}") == ("X", repr(text))
    assert config.split_binding("X={'a': 1}") == ("X", "{'a': 1}")


@pytest.mark.parametrize(
    "value",
    ["[{positive}, 'b']", "[1, {a}", "({a}, 1)", "{'a': {high}}", '{"a": foo}', "[{title}]"],
)
def test_a_list_or_mapping_with_a_bare_word_is_no_template(value):
    with pytest.raises(ValueError, match="put quotes around each text in it; or") as raised:
        config.split_binding(f"X={value}")
    flag = str(raised.value).partition("as --gin.X=")[2].removesuffix(".")
    assert config.split_binding(f"X={shlex.split(flag)[0]}") == ("X", repr(value))


def test_the_flag_of_a_text_is_shown():
    with pytest.raises(ValueError, match="""write a text as --gin.A="'one two three'"\\.$"""):
        config.split_binding("A=one two three")
    with pytest.raises(ValueError) as raised:
        config.split_binding('A=it is "$x" y')
    flag = str(raised.value).partition("as --gin.A=")[2].removesuffix(".")
    assert shlex.split(flag) == [repr('it is "$x" y')]


@pytest.mark.parametrize(
    "text",
    [
        "from t5x import utils\nutils.DatasetConfig.seed = 3\n",
        "from __gin__ import dynamic_registration\nimport seqio\n",
        "from __gin__ import dynamic_registration\nRun.seed = 3\n",
        "include 't5x/configs/runs/finetune.gin'\n",
        "import prompt_tuning.configs\n",
    ],
)
def test_gin_files_of_t5x_point_to_the_table_of_names(text, tmp_path):
    path = tmp_path / "theirs.gin"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"theirs.gin is not for spjax: (.|\n)*docs/t5x.md"):
        config.load("Run", [*FILES, path], NEEDED)
    assert (ROOT / "docs" / "t5x.md").is_file()


def test_an_import_of_nothing_is_named(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text("import no_such_module_here\n")
    with pytest.raises(ValueError, match="cannot read .*mine.gin: ModuleNotFoundError"):
        config.load("Run", [*FILES, path], NEEDED)
