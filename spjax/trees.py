"""Parameter trees under their T5X names: flattening, comparing, counting, stacking layers."""

from __future__ import annotations

import re
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from spjax.types import Tree

_DEPTH = 64
_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+)/(.+)$")
_SCANNED = re.compile(r"^(encoder|decoder)/layers/(.+)$")


def flatten(tree: Tree) -> dict[str, Any]:
    """Flattens a nested dict to `{"encoder/layers_0/mlp/wo/kernel": leaf}`, sorted by name."""
    return dict(sorted(flax.traverse_util.flatten_dict(dict(tree), sep="/").items()))


def unflatten(leaves: dict[str, Any]) -> dict[str, Any]:
    """Returns the nested dict of `flatten`'s output.

    Raises:
      ValueError: a name is that of an array and of a group, or has too many parts.
    """
    for name in leaves:
        if name.count("/") > _DEPTH:
            raise ValueError(f"the name {name[:60]!r}... has more than {_DEPTH} parts.")
    try:
        return flax.traverse_util.unflatten_dict(leaves, sep="/")
    except TypeError as error:
        raise ValueError(
            f"a name among {', '.join(sorted(leaves)[:4])}, ... is that of an array and of a group "
            "of arrays."
        ) from error


def split_floats(tree: Any) -> tuple[Any, Any]:
    """Splits a tree into what has a gradient and what has none.

    Args:
      tree: of arrays.

    Returns:
      Two trees of the same structure: one with `None` in place of every leaf that is not floating,
      and one with `None` in place of every leaf that is. `merge` puts them together.
    """

    def is_float(leaf: Any) -> bool:
        return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)

    floats = jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, tree)
    return floats, jax.tree.map(lambda leaf: None if is_float(leaf) else leaf, tree)


def merge(floats: Any, others: Any) -> Any:
    """Inverse of `split_floats`."""
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf,
        floats,
        others,
        is_leaf=lambda leaf: leaf is None,
    )


def count(tree: Tree) -> int:
    """Counts the parameters of a tree of arrays or of `jax.ShapeDtypeStruct`s.

    The scales of a quantized matrix do not count.
    """
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)


def to_host(leaf: Any) -> np.ndarray:
    """Returns an array in host memory, gathered from all processes if it is spread over them.

    All processes have to call it.
    """
    here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
    if not here:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(jax.device_get(leaf))


def check_same(actual: Tree, expected: Tree, source: str) -> None:
    """Checks that two trees have the same names and shapes.

    Args:
      actual: arrays that were read.
      expected: arrays or shapes of the model that should receive them.
      source: where `actual` came from, for the message.

    Raises:
      ValueError: it lists names that are missing and unexpected, and shapes that differ.
    """
    have, want = flatten(actual), flatten(expected)
    problems = []
    if missing := sorted(want.keys() - have.keys()):
        problems.append(f"missing: {', '.join(missing)}")
    if unexpected := sorted(have.keys() - want.keys()):
        problems.append(f"unexpected: {', '.join(unexpected)}")
    for name in sorted(have.keys() & want.keys()):
        if tuple(have[name].shape) != tuple(want[name].shape):
            problems.append(
                f"{name} has shape {tuple(have[name].shape)}, not {tuple(want[name].shape)}"
            )
    if problems:
        raise ValueError(
            f"the weights in {source} do not fit the model: {'; '.join(problems)}. "
            "Check that the checkpoint and the model size belong together."
        )


def stack_layers(tree: Tree) -> dict[str, Any]:
    """Converts unrolled layers (`layers_{i}`) to the scanned layout (`layers`, axis 1).

    The stacking axis is that of T5X's scanned T5 (`t5x/examples/scalable_t5`).
    """
    leaves: dict[str, Any] = {}
    stacks: dict[str, dict[int, Any]] = {}
    for name, leaf in flatten(tree).items():
        if match := _LAYER.match(name):
            stack, index, parameter = match.groups()
            stacks.setdefault(f"{stack}/layers/{parameter}", {})[int(index)] = leaf
        else:
            leaves[name] = leaf
    for name, parts in stacks.items():
        leaves[name] = jnp.stack([parts[i] for i in range(len(parts))], axis=1)
    return unflatten(leaves)


def unstack_layers(tree: Tree) -> dict[str, Any]:
    """Converts scanned layers to unrolled ones; the inverse of `stack_layers`."""
    leaves: dict[str, Any] = {}
    for name, leaf in flatten(tree).items():
        names = layer_names(name, leaf)
        leaves |= {layer: leaf[:, i] for i, layer in enumerate(names)} or {name: leaf}
    return unflatten(leaves)


def layer_names(name: str, leaf: Any) -> list[str]:
    """Returns the unrolled names of the layers stacked in a leaf of this name, [] if none are."""
    if not (match := _SCANNED.match(name)):
        return []
    stack, parameter = match.groups()
    return [f"{stack}/layers_{i}/{parameter}" for i in range(leaf.shape[1])]
