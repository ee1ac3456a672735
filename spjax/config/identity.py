"""The identity of a run: plain JSON, a key, and gin text that builds an equal run again."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
from collections.abc import Mapping
from typing import Any

_COMPUTED = "# Where and in what order it is computed:"
_MODULE_FIELDS = frozenset({"parent", "name"})  # added by Flax to every module


def canonical(value: Any) -> Any:
    """Converts `value` to plain JSON: dataclasses become dicts with their class, 1.0 becomes 1.

    Fields in a dataclass's property `without_identity` are left out, so they have no part in
    `run_key`: for example, the mesh that a run is computed on does not change its identity.

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
    """Returns 12 hexadecimal digits that name a run's folder: a hash of everything that decides it.

    That is its configuration, the content of the frozen weights and the version of the data.
    """
    from spjax.checkpoints.weights import weights

    frozen = weights.fingerprint(run.model, run.checkpoint)
    parts = [canonical(run), frozen, run.mixture.identity]
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def config_str(value: Any) -> str:
    """Returns gin text, without macros or files, that builds an equal dataclass again.

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
    """Returns the part of a `config_str` that decides the numbers, without where it is computed."""
    return text.partition(_COMPUTED)[0].strip()


@functools.cache
def parameters(target: Any) -> frozenset[str]:
    """Returns the names of the parameters of a class or function that gin may set."""
    names = frozenset(inspect.signature(target).parameters)
    return names - _MODULE_FIELDS if "parent" in names else names


def _items(value: Any) -> list[tuple[str, Any]]:
    known = parameters(type(value))  # type: ignore[arg-type]  # classes are hashable
    names = [f.name for f in dataclasses.fields(value) if f.name in known]
    return [(name, getattr(value, name)) for name in names]


def differences(one: str, other: str) -> list[str]:
    """Returns the names of the settings in which two texts of `config_str` differ, in order."""
    first, second = settings(one), settings(other)
    names = dict.fromkeys([*first, *second])
    return [name for name in names if first.get(name) != second.get(name)]


def settings(text: str) -> dict[str, str]:
    """Returns the identity's values in a text of `config_str` by name, as they are written."""
    pairs = (line.partition(" = ") for line in identity(text).splitlines())
    return {name: value for name, sign, value in pairs if sign}
