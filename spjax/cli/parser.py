"""Parsers that say what a misspelt command or flag may have meant, with the usage it belongs to."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_FLAG = re.compile(r"--.+|-[A-Za-z]\S*")  # negative numbers and "-" for stdin are none


# Flags of T5X's programs with a counterpart of another name.
_ELSEWHERE = {
    "--tfds_data_dir": "; TFDS_DATA_DIR in the environment names that folder",
    "--run_mode": "; the command says it: `spjax train`, `spjax eval` or `spjax predict`",
}


class CommandParser(argparse.ArgumentParser):
    """The parser of one command."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns what argparse does, but leaves no flag over for the parser of all commands."""
        self._check_flags(() if args is None else args)
        namespace, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"there is a word too many, {left[0]!r}")
        return namespace, left

    def _check_flags(self, args: Sequence[str]) -> None:
        """Refuses unknown flags before argparse misses one that was meant by them."""
        known = self._option_string_actions
        for arg in args:
            if arg == "--":
                return
            flag = arg.partition("=")[0]
            if not _FLAG.fullmatch(flag) or any(name.startswith(flag) for name in known):
                continue
            meant = _ELSEWHERE.get(flag) or guess(f"--{flag.lstrip('-')}", known)
            meant = meant or f"; `{self.prog} --help` lists those there are"
            self.error(f"unknown flag {flag}{meant}")


class Parser(argparse.ArgumentParser):
    """The parser of all commands."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns what argparse does; a misspelt command gets a guess."""
        commands = next(
            action.choices
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
        )
        if not args:
            self.error("no command is given; `spjax --help` lists them")
        first = args[0].partition("=")[0]
        if not first.startswith("-") and first not in commands:
            self.unknown_command(first, commands)
        known = self._option_string_actions
        if first.startswith("-") and not any(name.startswith(first) for name in known):
            meant = (
                guess(f"--{first.lstrip('-')}", known) or "; a command's flags come after its name"
            )
            self.error(f"unknown flag {first}{meant}")
        return super().parse_args(args, namespace)

    def unknown_command(self, name: str, commands: Iterable[str]) -> NoReturn:
        """Ends the process with the names of the commands."""
        meant = guess(name.lower(), (*commands, *self._option_string_actions))
        self.error(f"there is no command {name!r}{meant} (commands: {', '.join(commands)})")


def guess(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean ...?" for a name close to one of the known, else ""."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
