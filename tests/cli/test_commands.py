"""Every command is one file."""

import argparse
from pathlib import Path

import spjax.cli
from spjax.cli import main

FOLDER = Path(spjax.cli.__file__).parent


def test_every_command_is_a_file_of_its_name():
    parser = main.make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert list(commands.choices) == [x.__name__.rpartition(".")[2] for x in main.COMMANDS]
    for path in FOLDER.glob("*.py"):
        assert (path.stem in commands.choices) == ("def add_command(" in path.read_text())
