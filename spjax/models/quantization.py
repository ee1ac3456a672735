"""Frozen weights in int8: symmetric, with one float32 scale for each output channel.

Only weights are rounded (activations keep their dtype), because the frozen base never needs a
gradient, only memory. A `Quantized` replaces the kernel or the embedding table in the parameter
tree, under the same name. Kernels, the logits head included, have a scale for
each column, the embedding table one for each row; norms and biases by position stay float32.

The library qwix was tried (0.1.8): it leaves the embedding table in float32, which is a fifth of
T5-Base, and gives a scanned kernel one scale for a whole layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from spjax import platforms
from spjax.types import Array, Tree

DTYPES = ("float32", "bfloat16", "int8")
LEVELS = 127  # -128 is left out, so that the range is symmetric
_BLOCK = 2**22  # numbers rounded at a time


@flax.struct.dataclass
class Quantized:
    """A matrix `values * scales` of int8 values.

    Attributes:
      values: int8, from -127 to 127.
      scales: float32, the shape of `values` with 1 on the axis that shares a scale.
    """

    values: Array
    scales: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of the matrix."""
        return tuple(self.values.shape)


def check_dtype(dtype: str) -> None:
    """Refuses dtypes in which a frozen T5 does not work.

    Raises:
      ValueError: the dtype is not one of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise ValueError(
            f"weights cannot be read as {dtype!r}: allowed are {', '.join(map(repr, DTYPES))} "
            "(T5 overflows in float16). Choose one of these."
        )


def shared_axis(name: str) -> int | None:
    """Returns the axis along which a parameter shares a scale, None if it stays float.

    It is the axis that a product sums over, also where layers are stacked on axis 1.
    """
    if name.endswith("/kernel"):
        return 0
    return -1 if name.endswith("token_embedder/embedding") else None


def quantize(array: np.ndarray, axis: int, source: str = "the matrix") -> Quantized:
    """Rounds a matrix to int8; dequantized int8 comes out bit for bit.

    The largest number of a channel gets 127. The scale is rounded to 16 significant bits, so that
    its products with the values are exact in float32; an element is off by at most 0.501 scales.

    Args:
      array: float32, of any shape.
      axis: along which a scale is shared.
      source: for the message.

    Raises:
      ValueError: a number is NaN or infinite.
    """
    largest = np.maximum(array.max(axis, keepdims=True), -array.min(axis, keepdims=True))
    if not np.isfinite(largest).all():
        raise ValueError(
            f"{source} has NaN or infinite numbers, which int8 cannot hold. Copy the checkpoint "
            "again, or take one that has not diverged."
        )
    bits = (largest.astype(np.float32) / np.float32(LEVELS)).view(np.uint32)
    scales = ((bits + np.uint32(0x80)) & np.uint32(0xFFFFFF00)).view(np.float32)
    scales[scales == 0] = 1  # a channel of zeros
    values = np.empty(array.shape, np.int8)
    step = max(1, _BLOCK * array.shape[0] // max(1, array.size))
    for first in range(0, array.shape[0], step):
        rows = slice(first, first + step)
        shares = scales if scales.shape[0] == 1 else scales[rows]
        block = np.rint(array[rows] / shares)
        values[rows] = np.clip(block, -LEVELS, LEVELS, out=block)
    return Quantized(values, scales)


def quantize_tree(tree: Tree) -> dict[str, Any]:
    """Quantizes all matrices of a float32 parameter tree; other leaves stay.

    Args:
      tree: nested dicts with T5X's names.
    """

    def leaf(path: Any, array: Array) -> Any:
        axis = shared_axis("/".join(key.key for key in path))
        if axis is None:
            return array
        return jax.tree.map(jnp.asarray, quantize(np.asarray(array, np.float32), axis))

    return jax.tree_util.tree_map_with_path(leaf, dict(tree))


def is_quantized(tree: Tree) -> bool:
    """Returns whether any matrix of a parameter tree is in int8."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, Quantized))
    return any(isinstance(leaf, Quantized) for leaf in leaves)


def dequantize(leaf: Array | Quantized) -> Array:
    """Returns the float32 array of a quantized leaf; other leaves unchanged."""
    if isinstance(leaf, Quantized):
        return leaf.values.astype(jnp.float32) * leaf.scales
    return leaf


def dot(x: Array, kernel: Array | Quantized, dtype: str) -> jax.Array:
    """Returns `x @ kernel` in `dtype`; scales multiply the product, not the larger kernel.

    Args:
      x: `[..., in]`.
      kernel: `[in, out]`.
      dtype: of the product.
    """
    x = x.astype(dtype)
    if not isinstance(kernel, Quantized):
        return jnp.dot(x, kernel.astype(dtype))
    return _quantized_dot(x, kernel)


@jax.custom_vjp
def _quantized_dot(x: Array, kernel: Quantized) -> jax.Array:
    product = _product(x, kernel.values, lambda values: values)
    return (product * kernel.scales[0]).astype(x.dtype)


def _product(x: Array, values: Array, turn: Callable[[Array], Array]) -> jax.Array:
    # Bound to x, the conversion happens where it is needed. Else it is moved out of the loop of
    # decoding and shared with the backward pass, and floats of all kernels stay in memory.
    if platforms.current() == "cpu":  # where XLA drops barriers too early
        # Nothing is greater than infinity, but XLA does not know.
        values = values + (x.reshape(-1)[0] > jnp.inf).astype(jnp.int8)
    else:
        values, x = jax.lax.optimization_barrier((values, x))
    # Numbers up to 127 are exact in bfloat16.
    return jnp.dot(x, turn(values.astype(x.dtype)), preferred_element_type=jnp.float32)


def _forward(x: Array, kernel: Quantized) -> tuple[jax.Array, Quantized]:
    return _quantized_dot(x, kernel), kernel  # what is kept is the int8 kernel, not its floats


def _backward(kernel: Quantized, gradient: Array) -> tuple[jax.Array, None]:
    scaled = (gradient.astype(jnp.float32) * kernel.scales[0]).astype(gradient.dtype)
    product = _product(scaled, kernel.values, jnp.transpose)
    return product.astype(gradient.dtype), None  # frozen: the kernel has no gradient


_quantized_dot.defvjp(_forward, _backward)


def transpose(table: Array | Quantized) -> Array | Quantized:
    """Returns a matrix with its two axes swapped."""
    return jax.tree.map(lambda part: part.T, table)


def take(table: Array | Quantized, rows: Array, dtype: str = "float32") -> jax.Array:
    """Returns rows of an embedding table.

    Args:
      table: `[V, D]`.
      rows: indices of any shape.
      dtype: of the result.

    Returns:
      `[..., D]`.
    """
    taken = jax.tree.map(lambda part: jnp.take(part, rows, axis=0), table)
    return jnp.asarray(dequantize(taken), dtype)
