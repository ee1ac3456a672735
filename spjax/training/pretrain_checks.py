"""What a pre-training recipe's numbers may be, and whether a run goes on with its own corpus."""

from __future__ import annotations

import math
import numbers
from pathlib import Path
from typing import TYPE_CHECKING

from spjax.files import DamagedFile, read_json, write_json
from spjax.training import processes

if TYPE_CHECKING:
    from spjax.training.pretrain import Pretrain

_POSITIVE = ("documents", "lesson_documents", "rows", "target_length", "checkpoint_period",
             "microbatches")  # fmt: skip
_NOT_NEGATIVE = ("span_steps", "adaptation_steps", "long_steps", "steps_before", "warmup_steps",
                 "seed")  # fmt: skip
_LEAST = {**dict.fromkeys(_POSITIVE, 1), **dict.fromkeys(_NOT_NEGATIVE, 0), "input_length": 2}
_CORPUS = "corpus.json"  # which one the texts' numbers in the checkpoints belong to


def check_numbers(recipe: Pretrain) -> None:
    """Checks the kind and the range of single numbers.

    Raises:
      ValueError: one cannot be used; names it.
    """
    for name, least in _LEAST.items():
        value = getattr(recipe, name)
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(
                f"Pretrain.{name} is {value!r}; it must be at least {least}, a whole number."
            )
    for name, most in (("learning_rate", math.inf), ("decay_fraction", 1)):
        value = getattr(recipe, name)
        if not isinstance(value, numbers.Real) or not 0 <= value <= most:
            raise ValueError(f"Pretrain.{name} is {value!r}; it must be from 0 to {most}.")


def steps_of(recipe: Pretrain, name: str) -> tuple[int, ...]:
    """The steps that a recipe lists under a name.

    Raises:
      ValueError: they are no list, or not all among the steps of the run.
    """
    values = getattr(recipe, name)
    if not isinstance(values, (list, tuple)) or not all(
        isinstance(value, numbers.Integral) and 0 <= value <= recipe.steps for value in values
    ):
        raise ValueError(
            f"Pretrain.{name} is {values!r}; it must be a tuple such as (1,), of whole numbers "
            f"from 0 to {recipe.steps}, the steps of the run."
        )
    return tuple(values)


def check_same_corpus(name: str, fingerprint: str, folder: Path, step: int) -> None:
    """Refuses to go on with other documents; notes at the start of a run which ones they are.

    Args:
      name: of the corpus.
      fingerprint: of the corpus as it is now.
      folder: of the run.
      step: how many the run has made.

    Raises:
      ValueError: the run was begun with another build of the corpus.
    """
    path, begun = folder / _CORPUS, fingerprint
    if step and path.is_file():
        try:
            begun = str(read_json(path).get("fingerprint"))
        except DamagedFile as error:
            raise ValueError(
                f"{error}. It says which corpus the run in {folder} was begun with; put a copy "
                "back, or delete it if the corpus is still the same."
            ) from error
    if begun != fingerprint:
        raise ValueError(
            f"the run in {folder} has made {step} steps with another build of the corpus {name!r} "
            f"({begun[:8]}, and now {fingerprint[:8]}), so that it cannot go on exactly. Put that "
            "build back, or begin anew in another folder (MODEL_DIR)."
        )
    if processes.leads():
        about = {"corpus": name, "fingerprint": fingerprint}
        write_json(path, about)
