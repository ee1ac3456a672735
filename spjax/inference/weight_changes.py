"""LoRA's factors and IA3's scales of an adapter, applied to the weights they were trained over."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from spjax import trees
from spjax.models import quantization
from spjax.types import Tree

_NAME = re.compile(r"(lora)/(.+)/([ab])|(ia3)/(.+)()")
_SCANNED = re.compile(r"(encoder|decoder)/layers/(.+)")


def apply(base: Tree, tensors: Mapping[str, np.ndarray], origin: str) -> Tree:
    """Returns the weights with an adapter merged into them; `base` stays as it is.

    Args:
      base: the frozen weights, in floating point.
      tensors: by the names that `LoRA.collapse` and `IA3.collapse` give (the scale of LoRA in B);
        layers scanned or unrolled, whatever the base has.
      origin: what the tensors were read from, for messages.

    Returns:
      A tree like `base`, its changed kernels float32.

    Raises:
      ValueError: a tensor changes nothing in this model, does not fit its kernel or has lost its
        other factor; or the base is in int8.
    """
    if quantization.is_quantized(base):
        raise ValueError(
            f"{origin} changes the weights, and these are in int8, which cannot be changed. Use "
            "--weights_dtype=float32 or bfloat16."
        )
    changes = _by_kernel(tensors, origin)
    weights = trees.flatten(base)
    for kernel, parts in changes.items():
        name, layer = _place(kernel, weights)
        if name not in weights:
            raise ValueError(
                f"{origin} changes {kernel}, which this model has not. Give the model that the "
                "adapter was trained with."
            )
        leaf = weights[name].astype(jnp.float32)
        one = leaf if layer is None else leaf[:, layer]
        changed = _changed(one, parts, kernel, origin)
        weights[name] = changed if layer is None else leaf.at[:, layer].set(changed)
    return trees.unflatten(weights)


def _changed(
    kernel: jax.Array, parts: Mapping[str, np.ndarray], name: str, origin: str
) -> jax.Array:
    needed = {"a", "b"} if parts.keys() & {"a", "b"} else {""}
    height, width = kernel.shape
    rank = parts["a"].shape[-1] if "a" in parts else 0
    rows = name.endswith("wo/kernel")  # IA3 scales the input of the MLP's last layer
    shapes = {"a": (height, rank), "b": (rank, width), "": (height if rows else width,)}
    sizes = {part: array.shape for part, array in parts.items()}
    if sizes != {part: shapes[part] for part in needed}:
        raise ValueError(
            f"{origin} has {sizes} for {name}, which is {kernel.shape}. Give the model that the "
            "adapter was trained with, and all of the adapter."
        )
    if "" in parts:
        return kernel * (parts[""][:, None] if rows else parts[""])
    return kernel + jnp.asarray(parts["a"]) @ jnp.asarray(parts["b"])


def _by_kernel(tensors: Mapping[str, np.ndarray], origin: str) -> dict[str, dict[str, np.ndarray]]:
    """Factors "a" and "b", or scales "", of each kernel; layers unrolled."""
    parts_of_kernels: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{origin} holds {name}, which is no factor of LoRA and no scale of IA3. Give an "
                "adapter of one of them."
            )
        kernel, part = (match[2], match[3]) if match[1] else (match[5], "")
        scanned = _SCANNED.fullmatch(kernel)
        if scanned is None:
            parts_of_kernels.setdefault(kernel, {})[part] = array
            continue
        # Layers are on axis 1 of factors; of scales on the axis that they have in the kernel.
        axis = 0 if not part and not kernel.endswith("wo/kernel") else 1
        for i, one in enumerate(np.moveaxis(array, axis, 0)):
            layer = f"{scanned[1]}/layers_{i}/{scanned[2]}"
            parts_of_kernels.setdefault(layer, {})[part] = one
    return parts_of_kernels


def _place(kernel: str, weights: Mapping[str, jax.Array]) -> tuple[str, int | None]:
    """Name of the leaf that holds a kernel, and its layer there if the leaf stacks them."""
    match = re.fullmatch(r"(encoder|decoder)/layers_(\d+)/(.+)", kernel)
    if match is None:
        return kernel, None
    scanned, layer = f"{match[1]}/layers/{match[3]}", int(match[2])
    if scanned in weights and layer < weights[scanned].shape[1]:
        return scanned, layer
    return kernel, None
