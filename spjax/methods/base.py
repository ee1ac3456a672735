"""The interface of every tuning method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from spjax.checkpoints.prompts import prompt_files
from spjax.injection import Injection, Soft, join
from spjax.types import Tree

Encode = Callable[[str], Sequence[int]]
UNKNOWN = 2  # the id of pieces that a vocabulary lacks, in all that T5's models have


class Method(nn.Module):
    """Base class of tuning methods; its Flax parameters are all that is trained.

    A subclass in `spjax/methods/<name>.py` is registered by its file name. Its attributes are its
    hyper-parameters; none may be called `name`, `parent` or `init`, which Flax uses.

    Attributes:
      changes_weights: whether `__call__` returns other weights than the base. Such runs cannot
        share a forward pass, so their gangs have one run.
      parameter_counts: formulas of the number of trained parameters, one for each variant, in the
        letters of `spjax.types` and with E and L for the layers of encoder and decoder, M for the
        hidden size of a network and W for the parameters of the model.
      trained: whether there are parameters. A method without any returns the text to read
        (`written`), and has a number of examples in it (`demonstrations`) and a `decoding`.
    """

    changes_weights: ClassVar[bool] = False
    parameter_counts: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[bool] = True

    if TYPE_CHECKING:  # Flax leaves open what a method returns

        def apply(self, *args: Any, **kwargs: Any) -> Any:
            """Calls a method of the module with these parameters."""

    @property
    def variant(self) -> str:
        """Returns the label, beside prompt length, that separates runs of a method in tables."""
        return ""

    @property
    def prompt_length(self) -> int:
        """Returns the number of slots in every example (P)."""
        return 0

    @property
    def length_in_tables(self) -> int:
        """Returns the length shown in tables: `length` if there is one, else the slots."""
        return getattr(self, "length", self.prompt_length)

    @property
    def insertion(self) -> str:
        """Returns the place of slots: "front", "after_first", "end", or a template with `{p:n}`."""
        return "front"

    @property
    def samples_tasks(self) -> bool:
        """Returns whether each batch of a mixture is of some randomly drawn tasks only."""
        return False

    @property
    def paths(self) -> tuple[str, ...]:
        """Returns the files that the method reads; their content is part of the run's identity."""
        initializer = getattr(self, "initializer", None)
        return getattr(initializer, "paths", ())

    def digest_of(self, path: str) -> str:
        """Returns the SHA-256 of the content read from one of `paths`, "" if it is unreadable."""
        return prompt_files.digest(path)

    def resolve(self, labels: Sequence[str], encode: Encode, tasks: int = 1) -> Method:
        """Fills in what depends on task and vocabulary, such as label words for initializers.

        Args:
          labels: label words of the task.
          encode: text to token ids, without EOS.
          tasks: number of tasks that are mixed in training.

        Returns:
          A method whose parameters can be initialized.
        """
        del labels, encode, tasks
        return self

    def without_initializer(self) -> Method:
        """Returns the method without settings of initial values, so that runs share programs."""
        return self

    def __call__(self, base: Tree) -> tuple[Tree, Soft | None]:
        """Applies the trainable parameters to a forward pass.

        Args:
          base: the frozen weights.

        Returns:
          The weights to run with, and the soft tokens (or None).
        """
        raise NotImplementedError

    def collapse(self, trainable: Tree, base: Tree) -> dict[str, jax.Array]:
        """Returns the arrays that inference needs of a finished run.

        Args:
          trainable: parameters of one run.
          base: the frozen weights.

        Returns:
          Arrays by name: those of the run's `Soft` ("prompt", "prefix/cross/keys", "added");
          names of the method's own where it changes weights.
        """
        _, soft = self.apply({"params": trainable}, base)
        return {} if soft is None else soft.arrays()


def apply_gang(
    methods: Sequence[Method], trainables: Sequence[Tree], base: Tree
) -> tuple[Tree, Injection | None]:
    """Returns weights and injection for a gang.

    Args:
      methods: one for each group of runs whose trainable trees have the same shapes.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.

    Returns:
      The weights to run with and the soft tokens of all runs, group by group.
    """
    if methods[0].changes_weights:
        (method,), (trainable,) = methods, trainables
        params = jax.tree.map(lambda x: x[0], trainable)
        weights, one = method.apply({"params": params}, base)
        return weights, None if one is None else join([jax.tree.map(lambda x: x[None], one)])

    def soft(method: Method, trainable: Tree) -> Soft:
        return jax.vmap(lambda params: method.apply({"params": params}, base)[1])(trainable)

    return base, join([soft(*group) for group in zip(methods, trainables, strict=True)])


def init_trainable(method: Method, base: Tree, seed: int) -> Tree:
    """Initializes the trainable tree of one run, float32.

    Args:
      method: resolved (`Method.resolve`).
      base: the frozen weights; initializers read the embedding.
      seed: of the random draws.
    """
    params = method.init(jax.random.key(seed), base).get("params", {})
    # A copy, because a method may start from the base itself, which must never be donated.
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), params)
