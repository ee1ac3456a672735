"""Scores that Lester et al. 2021 state and no study here measures."""

from collections.abc import Sequence
from dataclasses import dataclass

SUPER_GLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")


@dataclass(frozen=True)
class Stated:
    """A score from a text.

    Attributes:
      name: of the model and how it is used.
      parameters: of the model.
      score: in percent.
      source: where it is stated.
    """

    name: str
    parameters: int
    score: float
    source: str


# The points of figure 1 itself (GPT-3 of all sizes, on validation) are given as numbers nowhere in
# the paper.
PROMPT_DESIGN = Stated(
    "GPT-3 few-shot",
    175_000_000_000,
    71.8,
    "71.8 on SuperGLUE as stated in section 1 of Lester et al. 2021, not measured here",
)
GPT3_FEW_SHOT = (PROMPT_DESIGN,)


def of_super_glue(tasks: Sequence[str]) -> bool:
    """Returns whether these are the tasks that a score of SuperGLUE is the mean of."""
    names = sorted(task.removeprefix("taskless_") for task in tasks)
    dataset = [name.removeprefix("super_glue_").partition("_")[0] for name in names]
    return dataset == sorted(SUPER_GLUE) and all(name.startswith("super_glue_") for name in names)
