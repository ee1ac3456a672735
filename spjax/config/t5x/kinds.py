"""Values of T5X's bindings, each of the kind that T5X takes; errors name the binding."""

from __future__ import annotations

import math
from typing import Any

from spjax import validation
from spjax.config.t5x.gin_files import Reference
from spjax.config.t5x.launch_scripts import literal, missing_variables, unset_variables


def whole(name: str, value: Any, least: int = 0, most: int = validation.MOST_STEPS) -> int:
    """Returns a whole number; 1e6 is one.

    Raises:
      ValueError: it is of another kind or out of range.
    """
    given(name, value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    validation.whole(name, value, least, most)
    return int(value)


def number(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> float:
    """Returns a number, of the type that it has.

    Raises:
      ValueError: it is of another kind or out of range.
    """
    given(name, value)
    validation.number(name, value, least, most)
    return value


def flag(name: str, value: Any) -> bool:
    """Returns True or False.

    Raises:
      ValueError: it is of another kind.
    """
    given(name, value)
    if not isinstance(value, bool):
        raise _other(name, value, "True or False")
    return value


def text(name: str, value: Any) -> str:
    """Returns a text, which may have a shell's variables in it.

    Raises:
      ValueError: it is of another kind.
    """
    if not isinstance(value, str):
        given(name, value)
        raise _other(name, value, "a text")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Returns a list of texts as a tuple.

    Raises:
      ValueError: it is of another kind, such as a text alone.
    """
    wanted = "a list of texts, ['yes', 'no']"
    items = sequence(name, value, wanted)
    if not all(isinstance(item, str) for item in items):
        raise _other(name, value, wanted)
    return items


def sequence(name: str, value: Any, wanted: str = "a list or tuple") -> tuple[Any, ...]:
    """Returns a list or tuple as a tuple.

    Raises:
      ValueError: it is of another kind than `wanted`.
    """
    given(name, value)
    if not isinstance(value, (list, tuple)):
        raise _other(name, value, wanted)
    return tuple(value)


def lengths(name: str, value: Any) -> dict[str, int]:
    """Returns the lengths of inputs and targets.

    Raises:
      ValueError: it is of another kind, or one is missing.
    """
    given(name, value)
    if not isinstance(value, dict) or set(value) != {"inputs", "targets"}:
        raise ValueError(f"{name} is {value!r}; give a dict with 'inputs' and 'targets'.")
    return {key: whole(f"{name}[{key!r}]", size, 1) for key, size in value.items()}


def given(name: str, value: Any) -> None:
    """Refuses what only T5X or a shell could compute.

    Raises:
      ValueError: names the binding, and the reference or variable.
    """
    if isinstance(value, Reference):
        raise ValueError(
            f"the value of {name} is {value}, which T5X computes; give the number or text, "
            "with --gin.NAME=... of the macro that it stands for."
        )
    if variables := unset_variables(value):
        raise ValueError(missing_variables(name, variables))


def _other(name: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"{name} is {literal(value)}; it must be {wanted}.")
