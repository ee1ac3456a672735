"""Help, misspelt commands and flags, and the list of gin files."""

import argparse
import re
import shlex

import pytest

from spjax import config
from spjax.cli import configs, main
from spjax.cli.gin_flags import rewrite_gin_flags


def commands():
    parser = main.make_parser()
    action = next(x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    return action.choices


def examples(text):
    """Commands that a help shows, as lists of arguments."""
    text = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"^.*\bspjax (\w.*--.*|[a-z_]+(?: [\w./]+)*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("name", commands())
def test_examples_of_a_command_parse(name):
    parser = commands()[name]
    text = parser.format_help()
    assert "Examples:" in text
    shown = examples(text.partition("Examples:")[2].partition("\n\n")[0])
    assert shown
    for arguments in shown:
        assert arguments[0] == name
        main.make_parser().parse_args(rewrite_gin_flags(arguments))


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main.make_parser().parse_args(rewrite_gin_flags(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_misspelt_command_gets_a_guess(capsys):
    text = said(capsys, "trian", "--gin_file=x")
    assert "there is no command 'trian'; did you mean train?" in text and "predict" in text
    assert "did you mean sweep?" in said(capsys, "SWEEP")
    assert "did you mean --help?" in said(capsys, "help")
    assert "no command is given; `spjax --help` lists them" in said(capsys)


def test_a_flag_before_the_command_is_told(capsys):
    assert "unknown flag --verison; did you mean --version?" in said(capsys, "--verison")
    text = said(capsys, "--gin_file=x", "train")
    assert "unknown flag --gin_file; a command's flags come after its name" in text


def test_a_misspelt_flag_gets_a_guess_and_the_usage_of_its_command(capsys):
    text = said(capsys, "train", "--gin_flie=x")
    assert "unknown flag --gin_flie; did you mean --gin_file?" in text
    text = said(capsys, "train", "--gin_file=x", "--tfds_data_dir=/x")
    assert "unknown flag --tfds_data_dir; TFDS_DATA_DIR in the environment names" in text
    assert text.startswith("usage: spjax train") and "required" not in text
    assert "`spjax plot --help` lists those there are" in said(capsys, "plot", "x", "--odd")
    assert "unknown flag -gin_file; did you mean --gin_file?" in said(
        capsys, "train", "-gin_file=x"
    )


def test_a_word_too_many_is_told_with_the_usage_of_its_command(capsys):
    text = said(capsys, "train", "--gin_file=x", "y")
    assert text.startswith("usage: spjax train") and "a word too many, 'y'" in text


def test_flags_may_be_shortened_and_follow_two_dashes():
    args = main.make_parser().parse_args(["sweep", "--gin_file=x", "--dry"])
    assert args.dry_run
    args = main.make_parser().parse_args(["inspect", "--", "--odd"])
    assert args.prompt == ["--odd"]


def test_gin_files_are_listed_with_their_first_sentence(capsys):
    assert main.main(["configs", "methods/lora"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("gin_configs/methods/lora.gin\n    LoRA: ")
    assert main.main(["configs"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    listed = re.findall(r"^\S+\.gin$", text, re.MULTILINE)
    assert "experiments/pocket/quickstart.gin" in listed
    assert not any("results" in name for name in listed)
    for name in listed:
        assert len(configs.first_sentence(config.find_file(name))) > 20, name


def test_a_gin_file_is_printed(capsys):
    assert main.main(["configs", "gin_configs/runs/paper.gin"]) == 0
    assert capsys.readouterr().out == config.find_file("gin_configs/runs/paper.gin").read_text()
    assert main.main(["configs", "nothing_like_it"]) == 2
    assert "no gin file that ships with spjax has 'nothing_like_it'" in capsys.readouterr().err
    assert main.main(["configs", "quikstart"]) == 2
    assert "did you mean quickstart? `spjax configs`" in capsys.readouterr().err
    assert main.main(["configs", "gin_configs/runs/papr.gin"]) == 2
    assert "did you mean 'gin_configs/runs/paper.gin'?" in capsys.readouterr().err
