"""What a pre-training recipe's numbers may be, and whether a run goes on with its own corpus."""

from __future__ import annotations

import numbers
from pathlib import Path
from typing import TYPE_CHECKING

from spjax import multihost, validation
from spjax.checkpoints import remote
from spjax.checkpoints.weights import weights
from spjax.files import DamagedFile, read_json, write_json

if TYPE_CHECKING:
    from spjax.pretraining.pretrain import Pretrain

# Smallest and largest value of the settings that are whole numbers.
_WHOLE_NUMBERS = {
    (1, validation.MOST_STEPS): ("documents", "lesson_documents", "checkpoint_period"),
    (0, validation.MOST_STEPS): (
        "span_steps",
        "adaptation_steps",
        "long_steps",
        "steps_before",
        "warmup_steps",
    ),
    (1, validation.MOST_EXAMPLES): ("rows", "microbatches", "num_partitions"),
    (1, validation.MOST_POSITIONS): ("target_length", "long_length"),
    (2, validation.MOST_POSITIONS): ("input_length",),
    (0, validation.MOST_SEED): ("seed",),
}
_CORPUS = "corpus.json"  # which one the texts' numbers in the checkpoints belong to


def check_numbers(recipe: Pretrain) -> None:
    """Checks the kind and the range of single numbers.

    Raises:
      ValueError: one cannot be used; names it.
    """
    for limits, names in _WHOLE_NUMBERS.items():
        for name in names:
            validation.whole(f"Pretrain.{name}", getattr(recipe, name), *limits)
    rate, most = recipe.learning_rate, validation.MOST_RATE
    validation.number("Pretrain.learning_rate", rate, 0, most, above=True)
    validation.number("Pretrain.decay_fraction", recipe.decay_fraction, 0, 1)


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


def contents(recipe: Pretrain) -> tuple[tuple[str, str], ...]:
    """Paths that a recipe reads and the SHA-256 of what is there, or was when it was written."""
    known, readers = dict(recipe.contents), {}
    if recipe.checkpoint and not remote.is_url(recipe.checkpoint):
        readers[recipe.checkpoint] = lambda: weights.fingerprint(recipe.model, recipe.checkpoint)
    found = {path: known.get(path) or read() for path, read in readers.items()}
    return tuple((path, digest) for path, digest in found.items() if digest)


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
    if multihost.is_primary():
        about = {"corpus": name, "fingerprint": fingerprint}
        write_json(path, about)
