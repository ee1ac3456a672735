"""Reads the shell scripts that start T5X, without running them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spjax.config.t5x.shell import ASSIGNMENT, OPEN, Command, Reader, expand, unknown
from spjax.files import reason

_T5X = re.compile(r"(?:^|[/}])t5x[./](train|eval|infer|main)(?:\.py)?$")
PROGRAMS = ("train", "eval", "infer")
_OTHER_TEXT = ("source", ".", "eval")  # commands of a text that is not the script's own
_ENVIRONMENT = re.compile(r"(?:JAX|XLA|TF|TFDS|LIBTPU|CUDA|NVIDIA)_\w+$")  # counts in spjax too
_REDIRECTION = re.compile(r"(?:\d*|&)(?:<<<|<>|<|>>|>\||>&|>)")


@dataclasses.dataclass(frozen=True)
class Launch:
    """One start of T5X.

    Attributes:
      program: "train", "eval" or "infer".
      gin_files: in the order of the flags.
      bindings: texts "NAME=value".
      search_paths: of `--gin_search_paths`; those with unknown variables are left out.
      flags: all other flags by name.
      others: words that are no flags, such as variables that hold more flags.
      environment: variables of JAX and TFDS that the script exports or sets for it.
      unread: commands before it that may set variables by a text of elsewhere, such as `source`.
    """

    program: str
    gin_files: tuple[str, ...]
    bindings: tuple[str, ...]
    search_paths: tuple[str, ...] = ()
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: tuple[str, ...] = ()


def is_script(path: Path) -> bool:
    """Returns whether a file is a shell script: by its ending, or by its first line."""
    if path.suffix in (".sh", ".bash"):
        return True
    try:
        with path.open("rb") as file:
            return re.match(rb"#!.*\b(ba|z|da)?sh\b", file.readline(200)) is not None
    except OSError:
        return False


def has_variables(text: str) -> bool:
    """Returns whether a text has something in it that only a shell can replace."""
    return any(mark in text for mark in OPEN.values())


def literal(value: Any) -> str:
    """Returns the Python literal of a value, with what only a shell can replace as it was."""
    return shown(repr(value))


def shown(text: str) -> str:
    """Returns a text, or the literal of one, with what only a shell can replace as it was."""
    for char, mark in OPEN.items():
        text = text.replace(mark.encode("unicode_escape").decode(), char).replace(mark, char)
    return text


def as_shell_text(text: str) -> str:
    """Returns a text with what only a shell can replace, as it stands in double quotes."""
    for char in '\\"$`':
        text = text.replace(char, f"\\{char}")
    for char, mark in OPEN.items():
        text = text.replace(mark, char)
    return text


def unset_variables(value: Any) -> str:
    """Returns the names of the variables in a value, with commas between, or "a command"."""
    text = value if isinstance(value, str) else "".join(_texts(value))
    names = re.findall(OPEN["$"] + r"\{?(\w+)", text)
    return ", ".join(names) or ("a command" if has_variables(text) else "")


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in a value."""
    items = [*value, *value.values()] if isinstance(value, Mapping) else value
    if isinstance(value, str):
        yield value
    elif isinstance(items, (list, tuple)):
        for item in items:
            yield from _texts(item)


def missing_variables(name: str, variables: str) -> str:
    """Returns the message for a value of `name` that depends on variables without a value."""
    return (
        f"the value of {name} depends on {variables}, which the script does not set, or not in "
        "every case; set it in the environment of `spjax translate`."
    )


def read(path: Path, folders: list[Path]) -> Launch:
    """Reads the one launch of T5X in a script.

    Args:
      path: of the script.
      folders: where a package that the script asks `find_module` for is looked up.

    Raises:
      ValueError: the file cannot be read, or starts T5X never or more than once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {reason(error)}.") from error

    def module(name: str) -> str | None:
        places = (folder / name for folder in folders)
        return next((str(place) for place in places if place.is_dir()), None)

    reader = Reader(os.environ, module)

    def expanded(command: Command, later: Iterable[str] = ()) -> list[str]:
        variables = command.variables | {name: unknown(name, os.environ) for name in later}
        return [expand(word, variables, module) for word in command.words]

    commands = list(reader.commands(text))
    launches = [x for x in commands if any(map(_T5X.search, expanded(x)))]
    if len(launches) != 1:
        raise ValueError(
            f"{path} starts T5X {len(launches)} times; a script is translated that has one line "
            "with `python3 -m t5x.train` (or eval, infer or main) and its flags."
        )
    later = reader.assigned[launches[0].place :] if launches[0].repeated else []
    earlier = [expanded(x) for x in commands[: commands.index(launches[0])]]
    others = [x for x in earlier if x[0] in _OTHER_TEXT and not x[-1].endswith("activate")]
    launch = _launch(expanded(launches[0], later))
    variables = launches[0].variables
    environment = {name: variables[name] for name in reader.exported & variables.keys()}
    for word in expanded(launches[0], later):
        if not (match := ASSIGNMENT.fullmatch(word)):
            break
        environment[match[1]] = match[3]
    return dataclasses.replace(
        launch,
        environment={x: y for x, y in sorted(environment.items()) if _ENVIRONMENT.match(x)},
        unread=tuple(map(" ".join, others)),
    )


def _launch(words: list[str]) -> Launch:
    start, match = next((i, match) for i, word in enumerate(words) if (match := _T5X.search(word)))
    flags: list[tuple[str, str]] = []
    others: list[str] = []
    target = False
    for word in words[start + 1 :]:
        redirection = _REDIRECTION.match(word)
        if target or redirection:
            target = not target and redirection is not None and redirection[0] == word
        elif word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            flags.append((name, value))
        elif flags and not flags[-1][1] and not has_variables(word):
            flags[-1] = (flags[-1][0], word)  # "--gin_file FILE"
        else:
            others.append(word)
    bindings = [
        value if name == "gin_bindings" else f"{name.removeprefix('gin.')}={value}"
        for name, value in flags
        if name == "gin_bindings" or name.startswith("gin.")
    ]
    paths = ",".join(value for name, value in flags if name == "gin_search_paths").split(",")
    known = ("gin_bindings", "gin_file", "gin_search_paths", "run_mode")
    program = match[1] if match[1] != "main" else dict(flags).get("run_mode", "").lower()
    if program not in PROGRAMS:
        raise ValueError(
            f"t5x.main is started with --run_mode={program}; translated are {', '.join(PROGRAMS)}."
        )
    return Launch(
        program=program,
        gin_files=tuple(value for name, value in flags if name == "gin_file"),
        bindings=tuple(bindings),
        search_paths=tuple(path for path in paths if path and not has_variables(path)),
        flags={n: v for n, v in flags if n not in known and not n.startswith("gin.")},
        others=tuple(others),
    )
