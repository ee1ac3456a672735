"""Adafactor's state in a T5X checkpoint, for runs of full fine-tuning that go on with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from spjax import trees
from spjax.checkpoints import remote
from spjax.checkpoints.weights import t5x, weights
from spjax.checkpoints.weights.stored_array import Leaves, check_finite

_MOMENTS = ("v", "v_row", "v_col")  # of T5X's Adafactor and of Optax's `FactoredState`


def restore(slots: Any, checkpoint: str) -> Any:
    """Returns an optimizer's state with the second moments and the step of a T5X checkpoint.

    T5X restores both where it fine-tunes (Lester et al. 2021, section 3.1: "pre-training parameter
    states restored"). Its Adafactor and Optax's keep the same arrays, and the decay of their second
    moments depends on the step alike (`t5x/adafactor.py`).

    Args:
      slots: of `Adafactor`, for one run of full fine-tuning; arrays have a leading axis of runs.
      checkpoint: path or URL of a `checkpoint_{step}` folder.

    Raises:
      ValueError: the checkpoint is of another format, has no such state, or one with momentum or of
        stacked layers; or names and shapes are not those of the model.
    """
    path = remote.local(checkpoint)
    if (kind := weights.kind(path)) != "t5x":
        raise ValueError(
            f"Run.restore_optimizer is True, and INITIAL_CHECKPOINT_PATH {checkpoint!r} is of the "
            f"format {kind!r}, which has no optimizer's state. Give a T5X checkpoint."
        )
    leaves, step = t5x.open_optimizer(path)
    _check_kind(leaves, path)
    restored = {}
    for moment in _MOMENTS:
        suffix = f"/{moment}"
        stored = {n.removesuffix(suffix): x for n, x in leaves.items() if n.endswith(suffix)}
        like = trees.flatten(optax.tree_utils.tree_get(slots, moment))
        trees.check_same(
            {f"{name}{suffix}": _shape(leaf.shape) for name, leaf in stored.items()},
            {f"{name}{suffix}": _shape(leaf.shape[1:]) for name, leaf in like.items()},
            f"the optimizer's state of {path}",
        )
        arrays = {name: leaf.read("float32") for name, leaf in stored.items()}
        for name, array in arrays.items():
            check_finite(array, f"{name}{suffix}", path)
        restored[moment] = trees.unflatten(
            {name: jnp.asarray(x)[None] for name, x in arrays.items()}
        )
    count = jnp.full_like(optax.tree_utils.tree_get(slots, "count"), step)
    return optax.tree_utils.tree_set(slots, count=count, **restored)


def _check_kind(leaves: Leaves, path: str) -> None:
    """Refuses states that Adafactor cannot go on with here."""
    for name, leaf in leaves.items():
        parameter, _, slot = name.rpartition("/")
        if "layers" in parameter.split("/") or parameter.startswith(
            ("encoder/encoder/", "decoder/decoder/")
        ):
            raise ValueError(
                f"the optimizer's state in {path} is of stacked layers ({name}), whose factored "
                "moments are others. Give a checkpoint with `layers_0`, `layers_1` and so on."
            )
        if slot == "m" and leaf.shape != (1,):
            raise ValueError(
                f"the optimizer's state in {path} has momentum ({name}), and Adafactor has none "
                "here. Leave Run.restore_optimizer False."
            )


def _shape(sizes: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)
