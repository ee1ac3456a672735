"""Checks the values that a configuration gives to a class against the class's annotations."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

_NAMES = {
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    bool: ("truth value (True or False)", "truth values (True or False)"),
}
_UNIONS = (typing.Union, types.UnionType)
_MOST_SHOWN = 60  # characters of a value in a message


def checked(target: type) -> Callable[..., Any]:
    """Returns a dataclass's constructor for gin, which checks the types of the values first.

    Args:
      target: the class; its annotations define the allowed values.

    Returns:
      A function of the same name and signature that raises `ValueError` as `check` does.
    """

    signature = inspect.signature(target)

    @functools.wraps(target, updated=())
    def construct(*args: Any, **values: Any) -> Any:
        check(target, signature.bind_partial(*args, **values).arguments)
        return target(*args, **values)

    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


def check(target: type, values: Mapping[str, Any]) -> None:
    """Checks values for the parameters of a class.

    A whole number is accepted as a float, a list as a tuple; True is no number.

    Raises:
      ValueError: one is of another kind than its annotation.
    """
    hints = _hints(target)
    for name, value in values.items():
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{target.__name__}.{name} is {value!r}; a text has no null bytes.")
        if name in hints and not _fits(value, hints[name]):
            shown = repr(value)
            if len(shown) > _MOST_SHOWN:
                shown = f"{shown[: _MOST_SHOWN - 3]}..."
            if inspect.isroutine(value):  # a class that gin was not asked to call
                shown = f"@{value.__name__} without '()'"
            raise ValueError(
                f"{target.__name__}.{name} is {shown}; it must be {_described(hints[name])}."
            )


@functools.cache
def _hints(target: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target)
    except NameError:  # a class of the user's, with names that only a type checker knows
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in _UNIONS:
        return any(_fits(value, option) for option in args)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items()
        )
    if origin in (tuple, collections.abc.Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        if origin is tuple and args[-1] is not Ellipsis:
            return len(value) == len(args) and all(map(_fits, value, args))
        return all(_fits(item, args[0]) for item in value)
    if hint in (int, float):
        wanted = int if hint is int else (int, float)
        return isinstance(value, wanted) and not isinstance(value, bool)
    if not isinstance(hint, type):  # another form of annotation, such as Literal
        return True
    # A class itself has the methods of its instances, and would pass for one.
    return not isinstance(value, type) and isinstance(value, hint)


def _described(hint: Any, several: bool = False) -> str:
    """Describes the allowed values, such as "a whole number" or "a list of texts"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "values" if several else "a value"
    if hint is None or hint is type(None):
        return "None"
    if origin in _UNIONS:
        return " or ".join(_described(option, several) for option in args)
    if origin is collections.abc.Mapping:
        article = "dicts" if several else "a dict"
        return f"{article} from {_described(args[0], True)} to {_described(args[1], True)}"
    if origin in (tuple, collections.abc.Sequence):
        return f"{'lists' if several else 'a list'} of {_described(args[0], True)}"
    if hint in _NAMES:
        return _NAMES[hint][1] if several else f"a {_NAMES[hint][0]}"
    name = getattr(hint, "__name__", str(hint)).lstrip("_")
    if not isinstance(hint, type):
        return name
    if hint.__subclasses__() or getattr(hint, "_is_protocol", False):
        return f"objects of the kind {name}" if several else f"an object of the kind {name}: @...()"
    return f"@{name}() objects" if several else f"@{name}()"
