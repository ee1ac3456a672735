"""Hard prompts: a manual template and worked examples in front of a frozen model, no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn

from spjax import validation
from spjax.methods.base import Method
from spjax.types import Tree

_INPUT = "{input}"
_DECODINGS = ("rank", "greedy")


class HardPrompt(Method):
    """The "prompt design" that Lester et al. 2021 compare with; it has no parameters.

    Brown et al. 2020 show the model demonstrations, each an input with its answer, and then the
    input alone. Here all of them are put into the same template and joined by spaces; the
    demonstrations come from the training split, the same ones for every input.

    Attributes:
      template: a text with {input} in it, or a mapping from the names of tasks to such texts, in
        which "default" stands for every other task.
      demonstrations: number of examples in front, equally many of each label, drawn by the run's
        seed.
      decoding: "rank" takes the most probable of the task's labels, "greedy" decodes freely.
    """

    trained: ClassVar[bool] = False

    template: Any = _INPUT
    demonstrations: int = 0
    decoding: str = "rank"

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        template = self.template
        for text in template.values() if isinstance(template, Mapping) else [template]:
            if not isinstance(text, str) or text.count(_INPUT) != 1:
                raise ValueError(
                    f"the template {text!r} must be a text in which {_INPUT} stands once, for "
                    f"example '{_INPUT} answer:'."
                )
        validation.whole("DEMONSTRATIONS", self.demonstrations, 0, validation.MOST_POSITIONS)
        if self.decoding not in _DECODINGS:
            raise ValueError(f"DECODING is {self.decoding!r}; use 'rank' or 'greedy'.")
        super().__post_init__()

    @property
    def variant(self) -> str:
        """Returns decoding, number of demonstrations, and the template unless trivial."""
        parts = [self.decoding, f"k={self.demonstrations}"]
        if isinstance(self.template, Mapping):
            parts.append("by task")
        elif self.template != _INPUT:
            parts.append(repr(self.template))
        return " ".join(parts)

    def written(self, task: str, text: str, shown: Sequence[tuple[str, str]] = ()) -> str:
        """Returns the text that the model reads.

        Args:
          task: name of the task; variants after a colon do not count.
          text: the input.
          shown: inputs and targets of the demonstrations.

        Raises:
          ValueError: the mapping of templates has neither the task nor a default.
        """
        template, name = self.template, task.partition(":")[0]
        if isinstance(template, Mapping):
            if name not in template and "default" not in template:
                raise ValueError(
                    f"there is no template for {name}, only for {', '.join(template)}; add one, "
                    "or an entry 'default'."
                )
            template = template.get(name, template.get("default"))
        demonstrations = [
            f"{template.replace(_INPUT, inputs)} {target}" for inputs, target in shown
        ]
        return " ".join([*demonstrations, template.replace(_INPUT, text)])

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, None]:
        """Returns the base as it is, and no soft tokens."""
        return base, None
