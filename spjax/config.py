"""Gin files in, frozen dataclasses out; the only file that knows gin.

Flags and macros follow T5X (`--gin_file`, `--gin.NAME=value`, `--gin_search_paths`), with one
difference: gin accepts a binding that nothing uses, here it is an error that names it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.resources
import inspect
import itertools
import json
import os
import pkgutil
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gin

# Which bindings a call used is only in gin's private tables, hence the narrow version bound of
# gin-config in setup.py.
from gin import config as _gin

T = TypeVar("T")

_ROOMS = (
    "spjax.methods",
    "spjax.training.optimizers",
    "spjax.training.run",
    "spjax.training.waywardness",
    "spjax.data.tasks.files",
)
_OPTIONAL_ROOMS = ("spjax.training.pretrain",)
_REGISTERED: dict[str, Any] = {}
_MACRO = "gin.macro"
_COMPUTED = "# Where and in what order it is computed:"
_FOLDER = "MODEL_DIR"  # says where a run's files go, and is no part of the run
_GIN_ERRORS = (ValueError, TypeError, RuntimeError, SyntaxError, OSError, tokenize.TokenError)
_MODULE_FIELDS = frozenset({"parent", "name"})  # added by Flax to every module


def configurable(target: T) -> T:
    """Makes a dataclass or function known to gin under its own name; returns it unchanged."""
    name = target.__name__
    if name not in _REGISTERED:
        hidden = sorted(set(inspect.signature(target).parameters) - _parameters(target))
        gin.register(target, denylist=hidden or None)
        _REGISTERED[name] = target
    return target


def by(key: Any, table: Mapping[Any, Any]) -> Any:
    """`table[key]`, for a setting that depends on another one.

    In gin: `Run.steps = @steps/by()`, `steps/by.key = %MODEL_SIZE`, `steps/by.table = {...}`. An
    entry named "default" stands for every other key.

    Raises:
      ValueError: the table has neither the key nor a default.
    """
    if key in table:
        return table[key]
    if "default" in table:
        return table["default"]
    raise ValueError(
        f"the table of `by` has no entry for {key!r}, only {', '.join(map(repr, table))}; "
        'add one, or an entry "default".'
    )


@functools.cache
def register_all() -> None:
    """Registers `Run`, `FileTask` and every dataclass of methods, optimizers and pre-training."""
    configurable(by)
    for room in _ROOMS + _OPTIONAL_ROOMS:
        try:
            module = importlib.import_module(room)
        except ModuleNotFoundError as error:
            if room in _OPTIONAL_ROOMS and error.name == room:
                continue
            raise
        modules = [module]
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if info.name != "base":  # interfaces
                modules.append(importlib.import_module(f"{room}.{info.name}"))
        for source in modules:
            for value in list(vars(source).values()):
                if (
                    isinstance(value, type)
                    and dataclasses.is_dataclass(value)
                    and value.__module__ == source.__name__
                    and not value.__name__.startswith("_")
                ):
                    configurable(value)


def default_search_paths() -> list[Path]:
    """Returns the working directory, then the folder with the `gin_configs` of spjax.

    That is the clone that spjax is run from, or the files that were installed with it.
    """
    clone = Path(__file__).resolve().parent.parent
    installed = Path(str(importlib.resources.files("spjax"))) / "shipped"
    return [Path.cwd(), clone if (clone / "gin_configs").is_dir() else installed]


def find_file(name: str | Path, search_paths: Iterable[str | Path] = ()) -> Path:
    """The gin file called `name`.

    Raises:
      ValueError: no such file in any search path.
    """
    places = [Path(p) for p in search_paths] + default_search_paths()
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ValueError(
        f"gin file {str(name)!r} was not found in {', '.join(map(str, places))}; "
        "check the name or add a folder with --gin_search_paths."
    )


def parse(
    gin_files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> None:
    """Replaces gin's configuration by these files and bindings, the later winning.

    Args:
      gin_files: names relative to a search path, or absolute.
      bindings: texts "NAME = value"; a value that is a bare word is taken as a string.
      search_paths: folders looked at before the working directory and the clone.

    Raises:
      ValueError: a file is missing, does not parse, or names something unknown.
    """
    register_all()
    gin.clear_config()
    paths = [Path(p) for p in search_paths] + default_search_paths()
    _gin._LOCATION_PREFIXES[:] = ["", *map(str, paths)]
    # Its other reader takes folders for Python packages, and complains of those that are none.
    _gin._FILE_READERS[:] = [(open, os.path.isfile)]
    for name in gin_files:
        path = find_file(name, search_paths)
        _explained(lambda path=path: gin.parse_config_file(str(path)))
    for text in bindings:
        _bind_text(text)


def load(
    name: str,
    gin_files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> Any:
    """Builds the configurable `name` ("Run", "Study", "Pretrain") from gin files and bindings.

    Raises:
      ValueError: as `parse`; a value is missing; or a binding is used by nothing.
    """
    parse(gin_files, bindings, search_paths)
    result = build(name)
    check_used(unused())
    return result


def load_with_folder(
    name: str,
    gin_files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> tuple[Any, str]:
    """As `load`, and the value of the macro MODEL_DIR, "" if there is none."""
    parse(gin_files, bindings, search_paths)
    result = build(name)
    check_used(unused() - {_FOLDER}, [_FOLDER])
    return result, str(macro(_FOLDER))


def macro(name: str) -> Any:
    """The value that was bound to a macro since the last `parse`, "" if there is none."""
    return _gin._CONFIG.get((name, _MACRO), {}).get("value", "")


def build(name: str) -> Any:
    """Calls the configurable `name` with what has been parsed.

    Raises:
      ValueError: a value is missing or not allowed.
    """
    missing = [
        _label(scope, selector, parameter)
        for (scope, selector), values in _gin._CONFIG.items()
        for parameter, value in values.items()
        if repr(value) == "%gin.REQUIRED"
    ]
    if missing:
        raise ValueError(f"{missing[0]} has no value; give one with --gin.{missing[0]}=...")
    return _explained(gin.get_configurable(name))


def used() -> set[str]:
    """Names of the bindings that took part in what was built since the last `parse`."""
    names = set()
    for (scope, selector), values in _gin._OPERATIVE_CONFIG.items():
        parts = scope.split("/") if scope else []
        scopes = ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]
        for parameter in values:
            for outer in scopes:  # gin lets the innermost scope win
                if parameter in _gin._CONFIG.get((outer, selector), {}):
                    names.add(_label(outer, selector, parameter))
                    break
    return names


def unused() -> set[str]:
    """Names of the bindings that nothing has used since the last `parse`."""
    bound = {
        _label(scope, selector, parameter)
        for (scope, selector), values in _gin._CONFIG.items()
        for parameter in values
        if not (selector == "gin.constant" or selector == _MACRO and scope == "gin.REQUIRED")
    }
    return bound - used()


def check_used(names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Refuses bindings that nothing used.

    Raises:
      ValueError: `names` is not empty.
    """
    names = sorted(names)
    if names:
        known = sorted(set(known) | used() - set(names))
        alike = [other for other in known if ("." in other) == ("." in names[0])]
        raise ValueError(
            f"nothing uses the binding {names[0]!r}{_guess(names[0], known)} "
            f"In use are: {', '.join(alike)}."
        )


@dataclasses.dataclass(frozen=True)
class Product:
    """The runs of all combinations of some axes.

    Attributes:
      runs: one `Run` for each combination, the last axis varying fastest.
      unused: names of the overrides that none of them used.
      known: names of all bindings that were used.
    """

    runs: tuple[Any, ...]
    unused: frozenset[str]
    known: frozenset[str]


def product(
    gin_files: Sequence[str],
    bindings: Mapping[str, Any],
    axes: Mapping[str, Sequence[Any]],
    overrides: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> Product:
    """Parses files once and builds a `Run` for every combination of the axes.

    Args:
      gin_files: of the runs.
      bindings: fixed values by macro name or "Configurable.parameter".
      axes: values by macro name.
      overrides: texts "NAME = value" that win over all others; a list for the name of an axis
        replaces its values.
      search_paths: see `parse`.

    Raises:
      ValueError: as `load`; unused overrides are returned instead, since another arm may use them.
    """
    parse(gin_files, (), search_paths)
    for name, value in bindings.items():
        _bind(name, value)
    axes = {name: list(values) for name, values in axes.items()}
    for text in overrides:
        name, value = split_binding(text)
        if name in axes:
            parsed = _explained(lambda value=value: _gin.parse_value(value))
            axes[name] = list(parsed) if isinstance(parsed, (list, tuple)) else [parsed]
        else:
            _bind_text(text)
    runs = []
    for values in itertools.product(*axes.values()):
        for name, value in zip(axes, values):
            _bind(name, value)
        runs.append(build("Run"))
    names = {split_binding(text)[0] for text in overrides}
    left = unused()
    check_used(left - names)
    return Product(tuple(runs), frozenset(left & names), frozenset(used()))


def split_binding(text: str) -> tuple[str, str]:
    """Name and value of "NAME = value"; a bare word such as pocket_50k becomes a quoted string.

    Raises:
      ValueError: there is no "=".
    """
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"binding {text!r} has no value; write it as --gin.{text}=VALUE.")
    name, value = name.strip(), value.strip()
    register_all()  # a value may refer to any of them
    try:
        _gin.parse_value(value)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        if not re.fullmatch(r"[\w./~:+-]+", value):
            if "No configurable matching" in str(error):
                raise ValueError(_explanation(str(error))) from error
            raise ValueError(
                f"the value {value!r} of {name} is neither a Python literal nor a gin reference; "
                "put quotes around a text."
            ) from None
        value = repr(value)
    return name, value


def canonical(value: Any) -> Any:
    """`value` as plain JSON: dataclasses become dicts with their class, 1.0 becomes 1.

    What a dataclass names in a property `without_identity` is left out, and so it has no part in
    `run_key`: where a run is computed is not which run it is.

    Raises:
      TypeError: something in it is neither a dataclass nor JSON.
    """
    if dataclasses.is_dataclass(value):
        hidden = getattr(value, "without_identity", ())
        items = {name: canonical(item) for name, item in _items(value) if name not in hidden}
        return {"class": type(value).__name__, **items}
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r} cannot be part of a configuration: neither a dataclass nor JSON.")


def run_key(run: Any) -> str:
    """The 12 hexadecimal digits that name a run's folder: a hash of everything that decides it.

    That is its configuration, the content of the frozen weights and of a vocabulary that is not
    the checkpoint's, and the version of the data.
    """
    from spjax.checkpoints import weights
    from spjax.data import vocabulary
    from spjax.data.tasks import registry

    frozen = weights.fingerprint(run.model, run.checkpoint)
    parts = [canonical(run), frozen, registry.mixture(run.task).identity]
    if run.vocabulary:
        parts.append(vocabulary.load(run.vocabulary).fingerprint)
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def config_str(value: Any) -> str:
    """Gin text, without macros or files, that builds an equal dataclass again.

    Equal values are written alike (1.0 as 1, a list as a tuple), so that runs with an equal
    `run_key` have texts of an equal `identity`.
    """
    blocks: list[str] = []
    computed: list[str] = []
    scopes: set[str] = set()

    def show(item: Any) -> str:
        if dataclasses.is_dataclass(item):
            return f"@{block(item)}()"
        if isinstance(item, Mapping):
            return "{" + ", ".join(f"{k!r}: {show(v)}" for k, v in item.items()) + "}"
        if isinstance(item, (list, tuple)):
            return "(" + "".join(f"{show(v)}, " for v in item) + ")"
        return repr(canonical(item))

    def block(item: Any) -> str:
        name = type(item).__name__
        scoped = name
        # The second object of a class needs a scope of its own.
        for i in itertools.count(2):
            if scoped not in scopes:
                break
            scoped = f"{name}_{i}/{name}"
        scopes.add(scoped)
        index = len(blocks)
        blocks.append("")
        hidden = getattr(item, "without_identity", ())
        lines = []
        for field, inner in _items(item):
            if field not in hidden:
                lines.append(f"{scoped}.{field} = {show(inner)}")
            elif inner != getattr(type(item), field):  # the default
                computed.append(f"{scoped}.{field} = {show(inner)}")
        blocks[index] = "\n".join(lines)
        return scoped

    block(value)
    if computed:
        blocks.append("\n".join([_COMPUTED, *computed]))
    return "\n\n".join(text for text in blocks if text) + "\n"


def identity(text: str) -> str:
    """The part of a `config_str` that says which run it is, without where it is computed."""
    return text.partition(_COMPUTED)[0].strip()


def _parameters(target: Any) -> set[str]:
    names = set(inspect.signature(target).parameters)
    return names - _MODULE_FIELDS if "parent" in names else names


def _items(value: Any) -> list[tuple[str, Any]]:
    known = _parameters(type(value))
    names = [f.name for f in dataclasses.fields(value) if f.name in known]
    return [(name, getattr(value, name)) for name in names]


def _bind(name: str, value: Any) -> None:
    key = name if "." in name else (name, _MACRO, "value")
    _explained(lambda: gin.bind_parameter(key, value))


def _bind_text(text: str) -> None:
    name, value = split_binding(text)
    _explained(lambda: gin.parse_config(f"{name} = {value}"))


def _label(scope: str, selector: str, parameter: str) -> str:
    if selector == _MACRO:
        return scope
    return f"{scope}/{selector.split('.')[-1]}.{parameter}".lstrip("/")


def _guess(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else "."


def _explained(call: Callable[[], T]) -> T:
    """Runs `call`, turning gin's errors into messages with the known names."""
    try:
        return call()
    except _GIN_ERRORS as error:
        text = str(error)
        if isinstance(error, OSError) and "Unable to open" not in text:
            raise
        raise ValueError(_explanation(text)) from error


def _explanation(text: str) -> str:
    first, *rest = text.splitlines()
    listed = "".join(f"\n{line}" for line in rest if line.startswith("- "))
    where = "".join(f"\n{line}" for line in rest if "In file" in line)
    if match := re.match(r"No configurable matching (?:reference )?'@?([^'()]+)(?:\(\))?'", first):
        name = match[1].split("/")[-1]
        known = sorted(_REGISTERED)
        return f"unknown name {name!r}{_guess(name, known)} Known: {', '.join(known)}.{where}"
    if match := re.match(r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'", first):
        owner = match[1].split(".")[-1]
        known = sorted(_parameters(_REGISTERED[owner]))
        return (
            f"{owner} has no parameter {match[2]!r}{_guess(match[2], known)} "
            f"Known: {', '.join(known)}.{where}"
        )
    if match := re.search(r"arguments: \['value'\](?s:.)*?'macro' .* in scope '(.+?)'", text):
        return f"macro {match[1]} has no value; give one with --gin.{match[1]}=..."
    if match := re.search(r"(\w+)\.__init__\(\) missing .* arguments?: (.*)", first):
        return f"{match[1]} needs a value for {match[2]}; bind {match[1]}.<name> in a gin file."
    match = re.match(r"unknown [\w ]+ '([^']*)'(.*)", first)
    if match and "Did you mean" not in first:
        close = difflib.get_close_matches(match[1], re.findall(r"[\w.]+", match[2]), 1, 0.6)
        first += f"{'' if first.endswith('.') else '.'} Did you mean {close[0]!r}?" if close else ""
    # What gin adds about its own calls is of no use to people; where the binding stands is.
    return first + listed + where
