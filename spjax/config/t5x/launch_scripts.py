"""Reads the shell scripts that start T5X, without running them.

Of the shell's language these are known: assignments, `$NAME`, `${NAME}`, `${NAME:-DEFAULT}`,
quotes, continued lines, and prompt-tuning's `find_module` in backquotes. What else a word contains
stays in it as it is, and goes back into a shell's command line.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spjax.files import reason

_PROGRAM = re.compile(r"(?:^|[/.])(?:t5x[./])?(train|eval|infer)(?:\.py)?$")
_T5X = re.compile(r"(?:^|[/}])t5x[./](train|eval|infer)(?:\.py)?$")
_ASSIGNMENT = re.compile(r"(?:export\s+|local\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
_FIND_MODULE = re.compile(r"find_module\s+(\w+)\s*$")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^{}]*))?\}|\$([A-Za-z_]\w*)")
_LITERALS = {"$": "\ue000", "`": "\ue001"}  # marks of those that the shell leaves alone
_OPEN = {"$": "\ue002", "`": "\ue003"}  # marks of those that only a shell can replace


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
    """

    program: str
    gin_files: tuple[str, ...]
    bindings: tuple[str, ...]
    search_paths: tuple[str, ...] = ()
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: tuple[str, ...] = ()


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
    return any(mark in text for mark in _OPEN.values())


def literal(value: Any) -> str:
    """Returns the Python literal of a value, with what only a shell can replace as it was."""
    text = repr(value)
    for char, mark in _OPEN.items():
        text = text.replace(mark.encode("unicode_escape").decode(), char).replace(mark, char)
    return text


def as_shell_text(text: str) -> str:
    """Returns a text with what only a shell can replace, as it stands in double quotes."""
    for char in '\\"$`':
        text = text.replace(char, f"\\{char}")
    for char, mark in _OPEN.items():
        text = text.replace(mark, char)
    return text


def unset_variables(value: Any) -> str:
    """Returns the names of the variables in a value, with commas between, or "a command"."""
    text = value if isinstance(value, str) else "".join(_texts(value))
    names = re.findall(_OPEN["$"] + r"\{?(\w+)", text)
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
        f"the value of {name} depends on {variables}, which the script does not set; set it in the "
        "environment of `spjax translate`."
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
    variables = dict(os.environ)

    def module(name: str) -> str | None:
        places = (folder / name for folder in folders)
        return next((str(place) for place in places if place.is_dir()), None)

    launches = []
    for line in _logical_lines(text):
        if (match := _ASSIGNMENT.match(line)) and len(_words(line)) <= 1 + line.startswith(
            "export"
        ):
            value = "".join(_words(match[2])[:1])
            variables[match[1]] = expand(value, variables, module)
            continue
        words = [expand(word, variables, module) for word in _words(line)]
        starts = [i for i, word in enumerate(words) if _T5X.search(word)]
        if starts:
            launches.append(_launch(words, starts[0]))
    if len(launches) != 1:
        raise ValueError(
            f"{path} starts T5X {len(launches)} times; a script is translated that has one line "
            "with `python3 -m t5x.train` (or eval or infer) and its flags."
        )
    return launches[0]


def _launch(words: list[str], start: int) -> Launch:
    match = _PROGRAM.search(words[start])
    assert match is not None  # as _T5X has found it
    flags: list[tuple[str, str]] = []
    others: list[str] = []
    for word in words[start + 1 :]:
        if word in (";", "&", "|", "&&", "||") or word.startswith((">", "2>", "<")):
            break
        if word.startswith("--"):
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
    known = ("gin_bindings", "gin_file", "gin_search_paths")
    return Launch(
        program=match[1],
        gin_files=tuple(value for name, value in flags if name == "gin_file"),
        bindings=tuple(bindings),
        search_paths=tuple(path for path in paths if path and not has_variables(path)),
        flags={n: v for n, v in flags if n not in known and not n.startswith("gin.")},
        others=tuple(others),
    )


def _logical_lines(text: str) -> list[str]:
    """Returns the lines with continued ones joined, without comments and empty lines."""
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _words(line: str) -> list[str]:
    """Splits a line as a shell does; what single quotes and backslashes keep is marked."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    i = 0
    while i < len(line):
        char = line[i]
        if quote == "'" and char != "'":
            word = (word or "") + _LITERALS.get(char, char)
        elif char == "\\" and quote != "'" and i + 1 < len(line):
            i += 1
            word = (word or "") + _LITERALS.get(line[i], line[i])
        elif char in "'\"" and (not quote or quote == char) or char == "`" and quote in ("", "`"):
            word = (word or "") + ("`" if char == "`" else "")
            quote = "" if quote == char else char
        elif char == "`" and quote == '"':  # a command within double quotes
            end = line.find("`", i + 1)
            end = len(line) - 1 if end < 0 else end
            word = (word or "") + line[i : end + 1]
            i = end
        elif char.isspace() and not quote:
            words, word = words + ([word] if word is not None else []), None
        elif char == "#" and not quote and word is None:
            break
        else:
            word = (word or "") + char
        i += 1
    return words + ([word] if word is not None else [])


def expand(text: str, variables: Mapping[str, str], module: Callable[[str], str | None]) -> str:
    """Returns a word with its known variables and modules replaced; what is left is marked.

    Args:
      text: from `_words`.
      variables: by name.
      module: the folder of a Python package, None if it is not known.
    """

    def command(match: re.Match[str]) -> str:
        asked = _FIND_MODULE.search(match[1] or match[2] or "")
        return (module(asked[1]) if asked else None) or match[0]

    text = re.sub(r"`([^`]*)`|\$\(([^()]*)\)", command, text)
    text = re.sub(r"\$\{\d+:?-(\$\{\w+\})\}", r"\1", text)  # the script's own arguments
    for _ in range(10):  # the value of a variable may have others in it
        before = text
        text = _VARIABLE.sub(lambda match: _variable(match, variables), text)
        if text == before:
            break
    for char in _OPEN:
        text = text.replace(char, _OPEN[char]).replace(_LITERALS[char], char)
    return text


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    return variables.get(match[1] or match[3]) or match[2] or match[0]
