"""Checks of what people set: texts are texts; numbers have a kind and a range, and are finite."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

# More than any run needs and few enough that nothing overflows or waits for ever.
MOST_STEPS = 10**9
MOST_POSITIONS = 10**5  # of a row, a prompt or a target; a row of T5 has 512
MOST_EXAMPLES = 10**6  # in a batch
MOST_SEED = 2**32 - 1
MOST_RATE = 1000.0
_TEXTS = ("tuple[str, ...]", "Sequence[str]")


def whole(name: str, value: Any, least: int = 0, most: int = MOST_STEPS) -> None:
    """Demands a whole number in a range.

    Args:
      name: how the user writes the setting, such as "Run.steps".
      value: what was set.
      least: smallest value allowed.
      most: largest value allowed.

    Raises:
      ValueError: it is of another kind or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        fits = False
    else:
        fits = least <= value <= most
    if not fits:
        raise ValueError(
            f"{name} is {_shown(value)}; it must be a whole number of at least {least} and at most "
            f"{most:,}."
        )


def number(
    name: str,
    value: Any,
    least: float = 0.0,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Demands a finite number in a range.

    Args:
      name: how the user writes the setting, such as "LEARNING_RATE".
      value: what was set.
      least: smallest value allowed; -inf for none.
      most: largest value allowed; inf for none.
      above: whether `least` itself is refused.
      below: whether `most` itself is refused.

    Raises:
      ValueError: it is of another kind, NaN, infinite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fits = False
    else:
        fits = least < value if above else least <= value
        fits = fits and (value < most if below else value <= most) and abs(value) < math.inf
    if not fits:
        words = ["finite number" if least == -math.inf and most == math.inf else "number"]
        if least > -math.inf:
            words.append(f"above {least:g}" if above else f"of at least {least:g}")
        if most < math.inf:
            joint = "and " if len(words) > 1 else ""
            words.append(f"{joint}{'below' if below else 'at most'} {most:g}")
        raise ValueError(f"{name} is {_shown(value)}; it must be a {' '.join(words)}.")


def texts(owner: Any) -> None:
    """Demands texts in the fields of a dataclass that are annotated as `str` or a sequence of it.

    A single text in place of a sequence is left to the owner.

    Args:
      owner: an object whose module has `from __future__ import annotations`.

    Raises:
      ValueError: a field has something else.
    """
    for field in dataclasses.fields(owner):
        value, several = getattr(owner, field.name), field.type in _TEXTS
        if field.type != "str" and not several or isinstance(value, str):
            continue
        if not (several and isinstance(value, (list, tuple))):
            wanted = "list of texts, ['yes', 'no']" if several else "text"
        elif all(isinstance(word, str) for word in value):
            continue
        else:
            wanted = "list of texts, each in quotes"
        name = f"{type(owner).__name__}.{field.name}"
        raise ValueError(f"{name} is {_shown(value)}; it must be a {wanted}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
