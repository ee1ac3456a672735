"""The device mesh, and where batches and parameters lie on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(data: int = 0, model: int = 1) -> Mesh:
    """A mesh with the axes `data` and `model`.

    Args:
      data: devices along `data`; 0 for all that `model` leaves.
      model: devices along `model`.

    Raises:
      ValueError: the two do not fit the number of devices.
    """
    devices = jax.device_count()
    data = data or max(devices // model, 1)
    if data * model > devices:
        raise ValueError(
            f"a mesh of {data} (data) x {model} (model) needs {data * model} devices, and there "
            f"are {devices}. Choose a smaller mesh."
        )
    chosen = jax.devices()[: data * model]
    return jax.make_mesh(
        (data, model), ("data", "model"), (AxisType.Auto, AxisType.Auto), devices=chosen
    )


def keep_compiled_programs(folder: Path) -> None:
    """Lets JAX keep compiled programs on disk for other processes, unless it has a folder."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh, rows: int) -> NamedSharding:
    """Rows of a batch are spread over `data`, where their number allows it."""
    if rows % mesh.shape["data"]:
        return replicated(mesh)
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Moves the arrays of a batch to the devices."""
    rows = jax.tree.leaves(batch)[0].shape[0]
    return jax.device_put(batch, by_rows(mesh, rows))
