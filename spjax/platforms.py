"""The platform that programs are traced for: JAX's here, or one they are compiled for ahead."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_target = contextvars.ContextVar("spjax_platform", default="")


def current() -> str:
    """Returns "cpu", "gpu" or "tpu": that of `compiling_for`, else JAX's default backend."""
    return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Within the context, programs are traced as on another platform than this machine's.

    What was traced before is not traced again: use it with meshes, which are a part of what JAX
    keeps traces by, of that platform's devices.

    Args:
      platform: "cpu", "gpu" or "tpu".
    """
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)
