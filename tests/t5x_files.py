"""Checkpoints in T5X's older format: a msgpack index, with zarr arrays beside it."""

import flax.serialization
import numpy as np
import tensorstore as ts

from spjax import trees


def write_array(folder, path, array):
    """A zarr array of T5X, with chunks that do not divide the shape."""
    chunks = [max(1, size - size // 3) for size in array.shape]
    metadata = {"shape": list(array.shape), "chunks": chunks}
    metadata["compressor"] = {"id": "gzip", "level": 1}
    spec = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
    place = {"driver": "file", "path": str(folder / path)}
    ts.open({**spec, "kvstore": place}, create=True).result().write(array).result()
    return spec


def kvstore(driver, path, outside):
    """The part of a spec that says where: `path` inside `kvstore`, or (old) beside it."""
    where = {"driver": driver, **({"bucket": "t5x-dummy-bucket"} if driver == "gcs" else {})}
    return {"kvstore": where, "path": path} if outside else {"kvstore": {**where, "path": path}}


def write(
    folder,
    leaves,
    version=3,
    driver="file",
    outside=False,
    change=lambda index: index,
    slots=None,
    step=3,
):
    """Writes a `checkpoint_{step}` folder: small arrays in the index, others as zarr.

    `slots` are the optimizer's arrays by the names of parameter and slot.
    """
    folder.mkdir()

    def branch(prefix, arrays):
        tree = {}
        for name, array in arrays.items():
            if array is not None and array.ndim > 1 and "relpos" not in name:
                path = prefix + name.replace("/", ".")
                tree[name] = write_array(folder, path, array) | kvstore(driver, path, outside)
            else:
                tree[name] = array
        return trees.unflatten(tree)

    if slots is None:
        slots = {"token_embedder/embedding/v": np.zeros(1, "float32")}
        slots["token_embedder/embedding/m"] = None
    state = {"step": np.int32(step), "param_states": branch("state.param_states.", slots)}
    index = {"target": branch("target.", leaves), "state": state}
    index = index if version == 0 else {"version": version, "optimizer": index}
    data = flax.serialization.msgpack_serialize(change(index))
    (folder / "checkpoint").write_bytes(data)
    return folder
