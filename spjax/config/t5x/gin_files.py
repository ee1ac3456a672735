"""Reads gin files of T5X as data: bindings, macros and references, with what they include.

A name is stored in full (`t5x.utils.DatasetConfig`), whatever the file's imports call it. Of
several bindings of a name the last one counts, and the innermost scope wins, as in gin.
"""

from __future__ import annotations

import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gin import config_parser

from spjax import files
from spjax.config.bare_values import split
from spjax.config.t5x import published
from spjax.config.t5x.launch_scripts import missing_variables, unset_variables

_ERRORS = (SyntaxError, ValueError, TypeError, tokenize.TokenError, LookupError, RecursionError)
_REQUIRED = "gin.REQUIRED"
_MAIN = {"train_script", "eval_script", "infer_script"}  # what T5X's files call the script itself


class Reference(NamedTuple):
    """`@scope/name()`, or without brackets if it is not called."""

    scope: str
    name: str
    called: bool

    def __str__(self) -> str:
        """Returns the reference as a gin file has it."""
        scope = f"{self.scope}/" if self.scope else ""
        return f"@{scope}{short(self.name)}{'()' if self.called else ''}"


class Macro(NamedTuple):
    """`%NAME`."""

    name: str

    def __str__(self) -> str:
        """Returns the macro as a gin file has it."""
        return f"%{self.name}"


class Key(NamedTuple):
    """A name that a file binds; `parameter` is "" for a macro."""

    scope: str
    name: str
    parameter: str

    def __str__(self) -> str:
        """Returns the name as a gin file of T5X has it."""
        scope = f"{self.scope}/" if self.scope else ""
        return f"{scope}{short(self.name)}.{self.parameter}" if self.parameter else self.name


def short(name: str) -> str:
    """Returns the last two parts of a full name: `utils.DatasetConfig`."""
    return ".".join(name.split(".")[-2:]).removeprefix("__main__.")


class Bindings:
    """Bindings of gin files and flags of T5X.

    Attributes:
      values: the last value of each name, references and macros unresolved.
      read: names whose value has been asked for.
      hidden: names that were asked for and that a binding of an inner scope overrides.
      files: that were read, with those that they include.
      standing_in: published files that were not found, and whose known settings were taken.
    """

    def __init__(self) -> None:
        self.values: dict[Key, Any] = {}
        self.read: set[Key] = set()
        self.hidden: dict[Key, Key] = {}
        self.files: list[Path] = []
        self.standing_in: list[str] = []
        self._open: list[Path] = []

    def add_file(self, name: str | Path, folders: Sequence[Path]) -> None:
        """Adds the bindings of a file and of the files that it includes.

        Args:
          name: relative to a folder, or absolute.
          folders: where it and its includes are looked for, in this order.

        Raises:
          ValueError: a file is not found, or does not parse.
        """
        path = find(name, folders)
        if path is not None:
            if path in self._open:
                raise ValueError(f"cannot read {path}: it includes itself.")
            self._open.append(path)
            self.files.append(path)
            try:
                self._add(path.read_text(encoding="utf-8"), str(path), folders)
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read {path}: {files.reason(error)}.") from error
            self._open.pop()
            return
        if str(name) not in published.FILES:
            if variables := unset_variables(str(name)):
                raise ValueError(missing_variables("--gin_file", variables))
            looked = ", ".join([f"{Path.cwd()} (the working folder)", *map(str, folders)])
            raise ValueError(
                f"the gin file {str(name)!r} was not found in {looked}; add the folder of the "
                "checkout that has it with --gin_search_paths."
            )
        self.standing_in.append(str(name))
        includes, bindings = published.FILES[str(name)]
        for include in includes:
            self.add_file(include, folders)
        for key, value in bindings.items():
            self._add(f"{key} = {value}", str(name), folders)

    def add_flag(self, text: str) -> None:
        """Adds `NAME=value`; a bare word is a text.

        Raises:
          ValueError: it has no value, or one that gin cannot read.
        """
        name, _, value = text.partition("=")
        try:
            self._add(f"{name} = {value}", f"--gin.{name}", ())
        except ValueError:
            if variables := unset_variables(value):
                raise ValueError(missing_variables(name, variables)) from None
            name, value = split(text)  # raises its own error, or puts the text in quotes
            self._add(f"{name} = {value}", f"--gin.{name}", ())

    def _add(self, text: str, origin: str, folders: Sequence[Path]) -> None:
        imports: dict[str, str] = {}
        try:
            parser = config_parser.ConfigParser(text, _Delegate(self, imports))
            for statement in parser:
                if isinstance(statement, config_parser.ImportStatement):
                    first = statement.module.partition(".")[0]
                    full = statement.module if statement.is_from or statement.alias else first
                    imports[statement.bound_name()] = full
                elif isinstance(statement, config_parser.IncludeStatement):
                    self.add_file(statement.filename, folders)
                elif isinstance(statement, config_parser.BindingStatement):
                    self._bind(statement, imports)
        except _ERRORS as error:
            if "was not found in" in str(error) or "cannot read" in str(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"cannot read {origin}: {reason}") from error

    def _bind(self, statement: Any, imports: Mapping[str, str]) -> None:
        scope, name, parameter, value, _ = statement
        if parameter:
            name = self.full_name(name, imports)
        elif name == "macro" or name.endswith(".macro"):
            scope, name = "", scope
        key = Key(scope, name, parameter)
        self.values.pop(key, None)  # so that the order is that of the last bindings
        self.values[key] = value

    def full_name(self, name: str, imports: Mapping[str, str]) -> str:
        """Returns the full name of what a file calls `name`."""
        first, dot, others = name.partition(".")
        if first in imports:
            name = f"{imports[first]}{dot}{others}"
        elif first in _MAIN:
            name = f"__main__.{others}"
        elif alike := sorted({n for n in self._names() if n.endswith(f".{name}")}, key=len):
            name = alike[0]
        return name.replace("t5x.train.train", "__main__.train")

    def _names(self) -> Iterator[str]:
        yield from (key.name for key in self.values if key.parameter)
        yield from published.NAMES

    def get(self, name: str, parameter: str, scope: str = "", default: Any = None) -> Any:
        """Returns the value of a parameter with its macros resolved.

        Args:
          name: in full.
          parameter: its parameter.
          scope: that it is called in.
          default: the value where nothing is bound, which is T5X's own default.

        Raises:
          ValueError: a macro has no value.
        """
        parts = scope.split("/") if scope else []
        scopes = ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]
        bound = [key for s in scopes if (key := Key(s, name, parameter)) in self.values]
        if not bound:
            return default
        self.read.add(bound[0])
        self.hidden |= dict.fromkeys(bound[1:], bound[0])
        return self.resolved(self.values[bound[0]], str(bound[0]))

    def macro(self, name: str, default: Any = None) -> Any:
        """Returns the value of a macro, its own macros resolved."""
        return self.resolved(Macro(name), name) if Key("", name, "") in self.values else default

    def resolved(self, value: Any, owner: str) -> Any:
        """Returns a value with its macros resolved.

        Args:
          value: as it is bound.
          owner: the name that it belongs to, for the message.

        Raises:
          ValueError: a macro has no value.
        """
        if isinstance(value, Macro):
            key = Key("", value.name, "")
            if value.name == _REQUIRED or key not in self.values:
                raise ValueError(self._missing(owner if value.name == _REQUIRED else value.name))
            self.read.add(key)
            return self.resolved(self.values[key], value.name)
        if isinstance(value, Reference):
            return value
        if isinstance(value, dict):
            return {key: self.resolved(item, owner) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolved(item, owner) for item in value)
        return value

    def _missing(self, name: str) -> str:
        """Returns the message for a name without a value, with the others that have none."""
        empty = (key for key, value in self.values.items() if value == Macro(_REQUIRED))
        others = {str(key) for key in empty} - {name, "MODEL_DIR"}
        also = f" Nor have {', '.join(sorted(others))}." if others else ""
        return f"{name} has no value; give one with --gin.{name}=...{also}"

    def macros_of(self, keys: Sequence[Key]) -> set[Key]:
        """Returns the macros that the values of these names refer to, and what those refer to."""
        found: set[Key] = set()
        values = [self.values[key] for key in keys]
        while values:
            value = values.pop()
            if isinstance(value, Macro):
                key = Key("", value.name, "")
                if key in self.values and key not in found:
                    found.add(key)
                    values.append(self.values[key])
            elif isinstance(value, dict):
                values += value.values()
            elif isinstance(value, (list, tuple)) and not isinstance(value, Reference):
                values += value
        return found


class _Delegate(config_parser.ParserDelegate):
    """Keeps references and macros as data."""

    def __init__(self, bindings: Bindings, imports: Mapping[str, str]) -> None:
        self._bindings = bindings
        self._imports = imports

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> Reference:
        """`@scope/name()`."""
        scope, _, name = scoped_name.rpartition("/")
        return Reference(scope, self._bindings.full_name(name, self._imports), evaluate)

    def macro(self, scoped_name: str) -> Macro:
        """`%NAME`."""
        return Macro(scoped_name)


def find(name: str | Path, folders: Sequence[Path]) -> Path | None:
    """Returns the path of a file, None if no folder has it."""
    for folder in (Path(), *folders):
        path = folder / Path(name).expanduser()
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name that no file can have
            return None
    return None
