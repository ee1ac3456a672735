"""Reads the `config.gin` or `study.gin` of a folder as data.

A result folder is untrusted, so nothing in its files is executed: no imports, includes or macros,
and no calls except of the classes of a configuration, which is all that `config_str` writes.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tokenize
from pathlib import Path
from typing import Any

from gin import config_parser

from spjax.checkpoints import remote
from spjax.config import kinds
from spjax.config.identity import parameters
from spjax.config.messages import guess
from spjax.config.registry import REGISTERED, register_all
from spjax.vocabularies.vocabulary import NAMES

_Bindings = dict[tuple[str, str], dict[str, Any]]
_MOST_BYTES = 1 << 24
_PATHS = {"Run": ("checkpoint", "vocabulary"), "FileTask": ("path", "validation", "test")}
_VARIANTS = re.compile(r"(:\w+)+$")  # of a task of files


def load_stored(name: str, path: str | Path, directory: str = "") -> Any:
    """Builds the configurable `name` ("Run", "Study", "Pretrain") from a file inside a folder.

    Args:
      name: of a registered class.
      path: a file that `config_str` has written.
      directory: what relative paths of checkpoints, vocabularies and data count from, where they
        are there; "" for the working directory.

    Raises:
      ValueError: the file cannot be read, has more than bindings of known classes, a value is
        missing or not allowed, or a binding is not used.
    """
    register_all()
    path = Path(path)
    try:
        bindings = _bindings(path)
        if directory and directory != os.getcwd():
            _move(bindings, directory)
        return _Builder(bindings).build(name)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be a configuration.") from error
    except (ValueError, TypeError) as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from error


def _move(bindings: _Bindings, directory: str) -> None:
    """Makes paths absolute that are relative to a directory."""
    moved = {}
    for (_, name), values in bindings.items():
        for parameter in _PATHS.get(name.rpartition(".")[2], ()):
            path = values.get(parameter)
            if not isinstance(path, str) or path in ("", *NAMES) or remote.is_url(path):
                continue
            whole = os.path.join(directory, os.path.expanduser(path))
            if os.path.exists(_VARIANTS.sub("", whole)):
                values[parameter] = moved[path] = whole
    for values in bindings.values():
        if contents := values.get("contents"):
            values["contents"] = [(moved.get(path, path), digest) for path, digest in contents]


@dataclasses.dataclass(frozen=True)
class _Reference:
    """`@scope/Name()`, not called yet."""

    scope: str
    name: str


class _Delegate(config_parser.ParserDelegate):
    """Makes references of what a value calls; refuses what is no plain object."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> _Reference:
        """`@scope/Name()`."""
        scope, _, name = scoped_name.rpartition("/")
        if not evaluate:
            raise ValueError(f"it refers to @{scoped_name} without calling it")
        _class(name)
        return _Reference(scope, name)

    def macro(self, scoped_name: str) -> Any:
        """`%NAME`, which no file of ours has."""
        raise ValueError(f"it uses the macro %{scoped_name}")


def _class(name: str) -> type:
    known: dict[str, Any] = {
        key: value for key, value in REGISTERED.items() if dataclasses.is_dataclass(value)
    }
    if name not in known:
        close = guess(name, known)
        raise ValueError(f"it names {name!r}, which is no part of a configuration{close}")
    return known[name]


def _bindings(path: Path) -> _Bindings:
    """Returns the values in a file, by scope and class."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path} is no file, or one too large for a configuration.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error.reason}), so it has been damaged.") from error
    bindings: _Bindings = {}
    try:
        for statement in config_parser.ConfigParser(text, _Delegate()):
            if isinstance(statement, config_parser.BlockDeclaration):
                continue
            if not isinstance(statement, config_parser.BindingStatement):
                kind = type(statement).__name__.removesuffix("Statement").lower()
                raise ValueError(f"it has an {kind} statement")
            scope, name, parameter, value, _ = statement
            if not parameter:
                raise ValueError(f"it binds the macro {name}")
            if parameter not in parameters(_class(name)):
                raise ValueError(f"{name} has no parameter {parameter!r}")
            bindings.setdefault((scope, name), {})[parameter] = value
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} was not written by spjax as it is: {reason}. A configuration inside a folder "
            "is read as data: settings of spjax's own classes, without imports, includes, macros "
            "or other calls. If you trust it, name it with --gin_file."
        ) from error
    return bindings


class _Builder:
    """Builds objects from bindings; the innermost scope wins, as in gin."""

    def __init__(self, bindings: _Bindings) -> None:
        self._bindings = bindings
        self._used: set[tuple[str, str]] = set()
        self._building: list[tuple[str, str]] = []

    def build(self, name: str) -> Any:
        """Builds the object of a class; everything that is bound must be part of it."""
        result = self._object("", name)
        for scope, owner in self._bindings.keys() - self._used:
            raise ValueError(f"nothing uses the settings of '{scope}/{owner}'".replace("'/", "'"))
        return result

    def _object(self, scope: str, name: str) -> Any:
        if (scope, name) in self._building:
            raise ValueError(f"{name} is a part of itself")
        self._building.append((scope, name))
        parts = scope.split("/") if scope else []
        values: dict[str, Any] = {}
        for i in range(len(parts) + 1):
            key = ("/".join(parts[:i]), name)
            if key in self._bindings:
                self._used.add(key)
                values |= self._bindings[key]
        arguments = {key: self._value(value, scope) for key, value in values.items()}
        self._building.pop()
        target = _class(name)
        needed = {
            field.name
            for field in dataclasses.fields(target)
            if field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
            and field.name in parameters(target)
        }
        if missing := sorted(needed - arguments.keys()):
            raise ValueError(f"{name} needs a value for {', '.join(missing)}")
        kinds.check(target, arguments)
        return target(**arguments)

    def _value(self, value: Any, scope: str) -> Any:
        if isinstance(value, _Reference):
            return self._object(value.scope or scope, value.name)
        if isinstance(value, dict):
            return {key: self._value(item, scope) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._value(item, scope) for item in value)
        return value
