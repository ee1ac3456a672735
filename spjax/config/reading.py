"""Reads gin files and bindings, and builds what they configure.

A method's file and a run's preset may both have a value for a setting, such as LEARNING_RATE. They
bind it in a scope that sets its precedence: bindings without one of these scopes override
`method_default/`, which overrides `preset_default/`, which overrides `default/`. So the order of
the files does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin

# Which bindings a call used is only in gin's private tables, hence the narrow version bound of
# gin-config in pyproject.toml.
from gin import config as gin_config

from spjax import guesses
from spjax.config import bare_values
from spjax.config.messages import explained, explained_file, guess
from spjax.config.registry import ALTERNATIVES, REGISTERED, register_all

SHIPPED = ("gin_configs", "experiments")  # folders with gin files
DEFAULTS = ("method_default", "preset_default", "default")  # scopes, the first of which wins
_MACRO = "gin.macro"
_FOLDER = "MODEL_DIR"  # says where a run's files go, and is no part of the run
_FROM_USER: set[str] = set()  # bindings that no file has: an unused one is always an error
_FROM_PRESET: set[str] = set()  # filled in from `preset_default/`


def default_search_paths() -> list[Path]:
    """Returns the working directory, then the folder with the `gin_configs` of spjax.

    That is the clone that spjax is run from, or the files that were installed with it.
    """
    clone = Path(__file__).resolve().parents[2]
    installed = Path(str(importlib.resources.files("spjax"))) / "shipped"
    return [Path.cwd(), clone if (clone / "gin_configs").is_dir() else installed]


def find_file(name: str | Path, search_paths: Iterable[str | Path] = ()) -> Path:
    """Returns the path of the gin file called `name`.

    Raises:
      ValueError: no such file in any search path.
    """
    folders = [Path(p).expanduser() for p in search_paths] + default_search_paths()
    once: dict[str, Path] = {}
    for folder in folders:
        once.setdefault(os.path.realpath(folder), folder)
    for folder in once.values():
        path = folder / Path(name).expanduser()
        if os.path.isfile(path):  # False for a name that is too long, where pathlib raises
            return path
    raise ValueError(
        f"gin file {str(name)!r} was not found in {', '.join(map(str, once.values()))}"
        f"{guess(str(name), shipped_files())} Check the name (`spjax configs` lists the files that "
        "ship) or add a folder with --gin_search_paths."
    )


def shipped_files() -> dict[str, Path]:
    """Returns the gin files that ship with spjax, by the names that `find_file` takes."""
    folder = default_search_paths()[-1]
    paths = [path for top in SHIPPED for path in sorted((folder / top).glob("*/*.gin"))]
    return {str(path.relative_to(folder)): path for path in paths if path.parent.name != "results"}


def parse(
    gin_files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> None:
    """Replaces gin's configuration by these files and bindings, the later winning.

    Args:
      gin_files: names relative to a search path, or absolute.
      bindings: texts "NAME = value"; a value that is a bare word is taken as a string.
      search_paths: folders searched before the working directory and spjax's own.

    Raises:
      ValueError: a file is missing, does not parse, or names something unknown.
    """
    register_all()
    gin.clear_config()
    _FROM_USER.clear()
    _FROM_PRESET.clear()
    paths = [Path(p).expanduser() for p in search_paths] + default_search_paths()
    # gin.add_config_file_search_path adds to the folders of earlier calls and cannot remove any.
    gin_config._LOCATION_PREFIXES[:] = ["", *map(str, paths)]
    # gin's other reader takes folders for Python packages and complains of those that are none;
    # gin.register_file_reader cannot remove it.
    gin_config._FILE_READERS[:] = [(open, os.path.isfile)]
    for name in gin_files:
        path = find_file(name, search_paths)
        explained_file(functools.partial(gin.parse_config_file, str(path)), path)
    _fill_in_defaults()
    for text in bindings:
        _bind_text(text)


def _fill_in_defaults() -> None:
    """Moves bindings in the scopes of `DEFAULTS` to where nothing else is bound."""
    for default in DEFAULTS:
        for (scope, selector), values in list(gin_config._CONFIG.items()):
            outer, _, inner = scope.partition("/")
            if outer != default or (selector == _MACRO and not inner):
                continue
            del gin_config._CONFIG[scope, selector]
            bound = gin_config._CONFIG.setdefault((inner, selector), {})
            for parameter, value in values.items():
                if default == "preset_default" and parameter not in bound:
                    _FROM_PRESET.add(_label(inner, selector, parameter))
                bound.setdefault(parameter, value)


def load(
    name: str,
    gin_files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> Any:
    """Builds the configurable `name` ("Run", "Study", "Pretrain") from gin files and bindings.

    Raises:
      ValueError: as `parse`; a value is missing; or a binding is not used.
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
    """Builds a configurable as `load` does; also returns the macro MODEL_DIR, "" if unset."""
    parse(gin_files, bindings, search_paths)
    result = build(name)
    check_used(unused() - {_FOLDER}, [_FOLDER])
    return result, os.path.expanduser(str(macro(_FOLDER)))


def macro(name: str) -> Any:
    """Returns the value bound to a macro since the last `parse`, "" if there is none."""
    try:
        return gin.query_parameter(f"{name}/{_MACRO}.value")
    except ValueError:  # nothing is bound to it
        return ""


def build(name: str) -> Any:
    """Calls the configurable `name` with what has been parsed.

    Raises:
      ValueError: a value is missing or not allowed.
    """
    missing = [
        _label(scope, selector, parameter)
        for (scope, selector), values in gin_config._CONFIG.items()
        for parameter, value in values.items()
        if repr(value) == "%gin.REQUIRED"
    ]
    if missing:
        raise ValueError(f"{missing[0]} has no value; give one with --gin.{missing[0]}=...")
    return explained(gin.get_configurable(name), _FROM_USER)


def used() -> set[str]:
    """Returns the names of the bindings used by what was built since the last `parse`."""
    names = set()
    for (scope, selector), values in gin_config._OPERATIVE_CONFIG.items():
        parts = scope.split("/") if scope else []
        scopes = ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]
        for parameter in values:
            for outer in scopes:  # gin lets the innermost scope win
                if parameter in gin_config._CONFIG.get((outer, selector), {}):
                    names.add(_label(outer, selector, parameter))
                    break
    return names


def unused() -> set[str]:
    """Returns the names of the bindings that nothing has used since the last `parse`.

    Settings that a file has for a class are left out where another class was chosen in its place,
    such as those of Adafactor where a run has AdamW, and macros that only such settings refer to.
    So is a preset's choice of such a class for runs that have none, such as an initializer.
    """
    bound = {
        _label(scope, selector, parameter): value
        for (scope, selector), values in gin_config._CONFIG.items()
        for parameter, value in values.items()
        if not (selector == "gin.constant" or selector == _MACRO and scope == "gin.REQUIRED")
    }
    left = {name: bound[name] for name in bound.keys() - used()}
    from_files = left.keys() - _FROM_USER
    chosen = _chosen()
    newly_ignored = {
        name
        for name in from_files
        if _has_alternative(name, chosen)
        or (name in _FROM_PRESET and _is_of_alternatives(name, left[name]))
    }
    ignored: set[str] = set()
    while newly_ignored:
        ignored |= newly_ignored
        newly_ignored = {inner for name in newly_ignored for inner in _macros_in(left[name])}
        newly_ignored = (newly_ignored & from_files) - ignored
    return set(left) - ignored


def _chosen() -> dict[str, set[str]]:
    """Returns the names of the classes that were called, by the module they are alternatives in."""
    chosen: dict[str, set[str]] = {module: set() for module in ALTERNATIVES}
    for _, selector in gin_config._OPERATIVE_CONFIG:
        name = selector.split(".")[-1]
        module = getattr(REGISTERED.get(name), "__module__", "")
        if module in chosen:
            chosen[module].add(name)
    return chosen


def _has_alternative(binding: str, chosen: Mapping[str, set[str]]) -> bool:
    """Returns whether a binding is of a class that another one was chosen over."""
    owner, dot, _ = binding.split("/")[-1].partition(".")
    module = getattr(REGISTERED.get(owner), "__module__", "") if dot else ""
    others = chosen.get(module, set())
    return bool(others) and owner not in others


def _is_of_alternatives(binding: str, value: Any) -> bool:
    """Returns whether a binding chooses, or sets, a class that a run has one of or none."""
    owner, dot, _ = binding.split("/")[-1].partition(".")
    references = gin_config.iterate_references(value)
    names = [owner] if dot else [ref.config_key[1].split(".")[-1] for ref in references]
    return any(getattr(REGISTERED.get(name), "__module__", "") in ALTERNATIVES for name in names)


def _macros_in(value: Any) -> Iterator[str]:
    """Yields the names of the macros that a bound value refers to."""
    for reference in gin_config.iterate_references(value):
        if reference.config_key[1] == _MACRO:
            yield reference.config_key[0]


def _files_with(macro: str) -> list[str]:
    """Returns the shipped gin files that use a macro which the files of a run do not."""
    folder = default_search_paths()[1]
    paths = sorted((folder / "gin_configs").rglob("*.gin"))
    uses = re.compile(rf"%{re.escape(macro)}\b")
    return [str(path.relative_to(folder)) for path in paths if uses.search(path.read_text("utf-8"))]


def check_used(
    names: Iterable[str], known: Iterable[str] = (), of_study: Iterable[str] = ()
) -> None:
    """Refuses bindings that nothing used.

    Args:
      names: the bindings.
      known: names in use, beside those that were used since the last `parse`.
      of_study: names that a study itself uses, which are guessed and listed before those of runs.

    Raises:
      ValueError: `names` is not empty.
    """
    names = sorted(names)
    if names:
        first = sorted(set(of_study) - set(names))
        known = sorted((set(known) | used()) - {*names, *first})
        likely = [name for name in first if guesses.closest(names[0], [name], 0.75)]
        files = [] if likely or of_study else _files_with(names[0])  # an arm names its files
        meant = guess(names[0], likely or known)
        hint = f"; {' and '.join(files[:3])} would use it." if files else meant
        studys, others = (
            ", ".join(other for other in group if ("." in other) == ("." in names[0]))
            for group in (first, known)
        )
        listed = f"{studys} in the study; {others} in its runs" if studys else others
        listed = f" In use are: {listed}." if listed else ""
        raise ValueError(f"nothing uses the binding {names[0]!r}{hint}{listed}")


@dataclasses.dataclass(frozen=True)
class Product:
    """The runs of all combinations of some axes.

    Attributes:
      runs: one `Run` for each combination, the last axis varying fastest.
      values: for each run the values of the axes, by name.
      unused: names of the overrides that none of them used.
      known: names of all bindings that were used.
    """

    runs: tuple[Any, ...]
    values: tuple[dict[str, Any], ...]
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
    _FROM_USER.update(bindings, axes)
    for name, value in bindings.items():
        _bind(name, value)
    axes = {name: list(values) for name, values in axes.items()}
    for text in overrides:
        name, value = split_binding(text)
        if name in axes:
            parsed = _value(text)
            axes[name] = list(parsed) if isinstance(parsed, (list, tuple)) else [parsed]
        else:
            _bind_text(text)
    runs = []
    combinations = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    for combination in combinations:
        for name, value in combination.items():
            _bind(name, value)
        runs.append(build("Run"))
    names = {split_binding(text)[0] for text in overrides}
    left = unused()
    check_used(left - names)
    unused_names = frozenset(left & names)
    return Product(tuple(runs), tuple(combinations), unused_names, frozenset(used()))


def split_binding(text: str) -> tuple[str, str]:
    """Splits "NAME = value"; a bare word such as pocket_50k becomes a quoted string.

    Raises:
      ValueError: there is no "=".
    """
    register_all()  # a value may refer to any of them
    return bare_values.split(text)


def _value(text: str) -> Any:
    """The value of a binding."""
    return explained(lambda: gin_config.parse_value(_typed(text)[1]))


def _typed(text: str) -> tuple[str, str]:
    """Splits a binding as `split_binding`; the value of a text setting is taken literally."""
    name, sign, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if sign and _takes_text(name) and bare_values.is_bare(value):
        return name, repr(value)
    return split_binding(text)


def _takes_text(name: str) -> bool:
    """Returns whether a binding ends in a setting that is a text, such as a path."""
    if name == _FOLDER:
        return True
    owner, dot, parameter = name.split("/")[-1].partition(".")
    if dot:
        return bare_values.is_text(REGISTERED.get(owner), parameter)
    return any(
        _takes_text(_label(scope, selector, inner))
        for (scope, selector), values in gin_config._CONFIG.items()
        for inner, value in values.items()
        if name in _macros_in(value) and (scope, selector) != (name, _MACRO)
    )


def _bind(name: str, value: Any) -> None:
    key = name if "." in name else (name, _MACRO, "value")
    explained(lambda: gin.bind_parameter(key, value))


def _bind_text(text: str) -> None:
    name, value = _typed(text)
    _FROM_USER.add(name)
    explained(lambda: gin.parse_config(f"{name} = {value}"))


def _label(scope: str, selector: str, parameter: str) -> str:
    if selector == _MACRO:
        return scope
    return f"{scope}/{selector.split('.')[-1]}.{parameter}".lstrip("/")
