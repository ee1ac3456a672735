"""T5X checkpoints: msgpack index with zarr arrays, and the Orbax layout.

The formats are those of `t5x/checkpoints.py`. A `checkpoint_{step}` folder of the older one has a
file `checkpoint` (msgpack) whose leaves are small arrays or TensorStore specs of zarr arrays beside
it; the newer one is an Orbax folder `state/`. Weights are read from `target/...`, the optimizer's
slots (`state/param_states/...`) by `open_optimizer` alone. Everything goes through TensorStore, so
a folder may be a local path or a URL that TensorStore knows (`gs://`, `s3://`, `http://`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import flax.traverse_util
import msgpack
import numpy as np
import tensorstore as ts

from spjax.checkpoints.weights import lazy, zarr_metadata
from spjax.checkpoints.weights.stored_array import Index, Leaves, StoredArray, from_array
from spjax.files import check_regular, reason

VERSIONS = (0, 1, 2, 3)
INDEX = "checkpoint"
ORBAX_FILES = ("_METADATA", "manifest.ocdbt")
# Where Orbax's checkpoint managers put the tree: T5X's item name, Orbax's own, or no item.
_ORBAX_ITEMS = ("", "state/", "default/")
_PLACEHOLDER = "PLACEHOLDER://"
_DTYPES = ("float32", "bfloat16", "float16", "float64")
_STEP_DTYPES = ("int32", "int64")
_RELPOS = re.compile(r"^(encoder|decoder)/layers_(\d+)/(relpos_bias/rel_embedding)$")


class _Folder:
    """A folder of a TensorStore key-value store.

    Attributes:
      name: the path or URL, for messages.
      store: the TensorStore spec of the folder, its path ending in "/".
      limit: as many bytes as one array of it may have.
    """

    def __init__(
        self, path: str | Path, store: Mapping[str, Any] | None = None, limit: int = 0
    ) -> None:
        self.name = str(path)
        self.limit = limit or zarr_metadata.memory()
        if store is not None:
            self.store = dict(store)
        elif "://" in self.name:
            self.store = ts.KvStore.Spec(self.name.rstrip("/") + "/").to_json()
        else:
            self.store = {"driver": "file", "path": os.path.abspath(self.name) + "/"}

    def at(self, path: str) -> dict[str, Any]:
        """Returns the spec of a file or folder in it."""
        return {**self.store, "path": self.store.get("path", "") + path}

    def below(self, name: str) -> _Folder:
        """Returns a folder in it; `name` is "" or ends in "/"."""
        path = f"{self.name.rstrip('/')}/{name}"
        return _Folder(path, self.at(name), self.limit) if name else self

    def read(self, name: str, context: ts.Context | None = None) -> bytes | None:
        """Reads a file, None where there is none."""
        result = ts.KvStore.open(self.store, context=context).result().read(name).result()
        return bytes(result.value) if result.state == "value" else None

    def check_files(self) -> None:
        """Sets the limit of a local folder by its files, none of which may be a pipe or a device.

        Raises:
          OSError: something is.
        """
        if self.store["driver"] != "file":
            return
        paths = [
            os.path.join(parent, name)
            for parent, _, names in os.walk(self.store["path"])
            for name in names
        ]
        paths = [path for path in paths if os.path.exists(path)]  # not a link to nothing
        for path in paths:
            check_regular(path)
        self.limit = min(self.limit, zarr_metadata.unpacked(sum(map(os.path.getsize, paths))))

    def names(self) -> list[str]:
        """Returns the names of all files, also those in sub-folders."""
        return [key.decode() for key in ts.KvStore.open(self.store).result().list().result()]


def open_weights(path: str | Path) -> Leaves:
    """Returns the arrays of `open_arrays` without the soft prompts."""
    return {name: leaf for name, leaf in open_arrays(path).items() if not _is_prompt(name)}


def holds_prompts(path: str | Path) -> bool:
    """Returns whether there are soft prompts in a T5X checkpoint."""
    return any(_is_prompt(name) for name in open_arrays(path))


def read_prompts(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the soft prompts of a prompt-tuned T5X checkpoint.

    Args:
      path: a `checkpoint_{step}` folder, local or a URL that TensorStore knows.

    Returns:
      `{"encoder/prompt/prompt/prompt": float32 [P, D], ...}`, empty if there are none.

    Raises:
      ValueError: the checkpoint is damaged or of an unknown version.
    """
    prompts = {name: leaf for name, leaf in open_arrays(path).items() if _is_prompt(name)}
    try:
        return {name: leaf.read("float32") for name, leaf in prompts.items()}
    except OSError as error:
        raise ValueError(
            f"cannot read the prompts of {path}: {reason(error)}. Copy the checkpoint again."
        ) from error


def is_checkpoint(path: str | Path) -> bool:
    """Returns whether a folder, local or a URL, holds a T5X checkpoint of either layout.

    Raises:
      ValueError: TensorStore does not know such URLs, or cannot reach it.
    """
    marks = [INDEX, *(item + name for item in _ORBAX_ITEMS for name in ORBAX_FILES)]
    if "://" not in str(path):
        return any((Path(path) / name).is_file() for name in marks)
    folder = _Folder(path)
    # TensorStore's own 32 attempts take a quarter of an hour where there is no connection.
    few = {f"{store}_request_retries": {"max_retries": 3} for store in ("gcs", "s3", "http")}
    context = ts.Context(few)
    return any(folder.read(name, context) is not None for name in marks)


def _is_prompt(name: str) -> bool:
    return "prompt" in name.split("/")


def open_arrays(path: str | Path) -> Leaves:
    """Returns all arrays under `target` of a T5X checkpoint, not yet read, under spjax's names.

    Args:
      path: a `checkpoint_{step}` folder, local or a URL that TensorStore knows.

    Raises:
      ValueError: there is no T5X checkpoint, or its index is damaged or of an unknown version.
    """
    return _canonical(_open(path, _WEIGHTS), str(path))


def open_optimizer(path: str | Path) -> tuple[Leaves, int]:
    """Returns the optimizer's slots of a T5X checkpoint, not yet read, and its step.

    Args:
      path: as for `open_arrays`.

    Returns:
      Arrays by the name of the parameter and of the slot, such as `.../kernel/v_row` (of Adafactor
      `m`, `v`, `v_row` and `v_col`, those that are not used of shape (1,)), and the number of
      updates before.

    Raises:
      ValueError: as `open_arrays`; or there is no optimizer's state.
    """
    leaves = _open(path, _OPTIMIZER)
    step = leaves.pop(_STEP, None)
    prefix = "param_states/"
    slots = {k.removeprefix(prefix): leaf for k, leaf in leaves.items() if k.startswith(prefix)}
    if step is None or step.shape != () or not slots:
        raise ValueError(
            f"the T5X checkpoint {path} has no optimizer's state (`state/step` and "
            "`state/param_states`), so a run cannot go on with it. Give a checkpoint that T5X "
            "wrote in training, or set Run.restore_optimizer = False."
        )
    return slots, int(step.read("int32"))


_WEIGHTS, _OPTIMIZER, _STEP = "target", "state", "step"  # in a checkpoint's tree


def _open(path: str | Path, part: str) -> Leaves:
    """Returns the arrays under `target` or `state`, not yet read, by their names there."""
    folder = _Folder(path)
    try:
        folder.check_files()
        if (index := folder.read(INDEX)) is not None:
            return _from_index(folder, index, part)
        for item in _ORBAX_ITEMS:
            inner = folder.below(item)
            if any(inner.read(name) is not None for name in ORBAX_FILES):
                return _from_orbax(inner, part)
    except OSError as error:
        raise ValueError(
            f"cannot read the T5X checkpoint {path}: {reason(error)}. Copy the checkpoint again."
        ) from error
    raise ValueError(
        f"{path} is not a T5X checkpoint: it has neither a file {INDEX!r} nor an Orbax folder. "
        "Give the folder `checkpoint_{step}` itself."
    )


# The older format.


def _from_index(folder: _Folder, index: bytes, part: str) -> Leaves:
    content, version = _content(folder, index)
    branch = content.get(part)
    branch = branch if isinstance(branch, dict) else {}
    leaves = {}
    try:
        tree = flax.traverse_util.flatten_dict(branch, sep="/", is_leaf=_is_leaf)
    except _INDEX_ERRORS as error:
        raise _damaged(folder, error) from error
    for name, leaf in tree.items():
        if isinstance(leaf, Mapping):
            leaves[name] = _from_spec(folder, name, leaf, version)
        elif isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER):
            leaves[name] = _zarr(folder, leaf.removeprefix(_PLACEHOLDER), version)
        elif (part, name) == (_OPTIMIZER, _STEP):
            leaves[name] = from_array(_as_step(leaf, folder))
        elif isinstance(leaf, np.ndarray):
            leaves[name] = from_array(_as_floats(leaf, version))
        elif leaf is not None:  # None: a parameter that no optimizer owned
            raise ValueError(
                f"{name} in the index of {folder.name} is neither an array nor a TensorStore spec "
                f"but {type(leaf).__name__}. Copy the checkpoint again."
            )
    return leaves


def _as_step(leaf: Any, folder: _Folder) -> np.ndarray:
    """Returns the number of updates, which T5X writes into the index."""
    step = np.asarray(leaf)
    if step.shape != () or not np.issubdtype(step.dtype, np.integer) or not 0 <= step < 2**31:
        raise ValueError(
            f"the step in the index of {folder.name} is {step}, not a number of updates. Copy the "
            "checkpoint again."
        )
    return step.astype(np.int32)


def _content(folder: _Folder, index: bytes) -> tuple[Mapping[str, Any], int]:
    """Returns the tree of parameters and optimizer in the index, and the format's version."""
    try:
        content = flax.serialization.msgpack_restore(index)
    except _INDEX_ERRORS as error:
        raise _damaged(folder, error) from error
    version = content.get("version", 0) if isinstance(content, dict) else 0
    if type(version) is not int or version not in VERSIONS:
        raise ValueError(
            f"{folder.name} has version {version} of the T5X format; supported are "
            f"{', '.join(map(str, VERSIONS))}. Convert it with the T5X that wrote it."
        )
    # Orbax's first layout kept Flax's field name; version 0 had no wrapper.
    for key in ("optimizer", "_optimizer"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    if not isinstance(content, dict) or not isinstance(content.get("target"), dict):
        raise ValueError(
            f"the index {folder.name}/{INDEX} has no `target`, so it holds no T5X parameters. "
            "Give the folder `checkpoint_{step}` of a T5X model."
        )
    return content, version


# What msgpack, Flax and NumPy raise where an index holds anything.
_INDEX_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    msgpack.exceptions.UnpackException,
)


def _damaged(folder: _Folder, error: Exception) -> ValueError:
    return ValueError(
        f"the index {folder.name}/{INDEX} is damaged ({type(error).__name__}: {error}). Copy the "
        "checkpoint again."
    )


def _is_leaf(path: tuple[str, ...], value: Any) -> bool:
    return isinstance(value, Mapping) and "driver" in value and "kvstore" in value


def _from_spec(folder: _Folder, name: str, spec: Mapping[str, Any], version: int) -> StoredArray:
    # TensorStore before 0.1.14 had `path` beside `kvstore`, later ones have it inside. Driver and
    # bucket say where the checkpoint was written, not where it is now.
    store, metadata = spec["kvstore"], spec.get("metadata", {})
    path = (store.get("path") if isinstance(store, Mapping) else None) or spec.get("path")
    if spec["driver"] != "zarr" or not isinstance(path, str) or not path.strip("/"):
        raise ValueError(
            f"the TensorStore spec of {name} in {folder.name} has driver {spec['driver']!r} and "
            f"path {path!r}; it needs 'zarr' and a path. Copy the checkpoint again."
        )
    array = _zarr(folder, path, version)
    shape = metadata.get("shape") if isinstance(metadata, Mapping) else None
    shape = tuple(shape) if isinstance(shape, list | tuple) else shape
    if shape is not None and shape != array.shape:
        raise ValueError(
            f"{name} in {folder.name} has shape {array.shape}, but the index says {shape}. "
            "Index and arrays come from different checkpoints: copy it again."
        )
    return array


# The Orbax layout.


def _from_orbax(folder: _Folder, part: str) -> Leaves:
    ocdbt = folder.read("manifest.ocdbt") is not None
    store = {"driver": "ocdbt", "base": folder.store} if ocdbt else folder.store
    arrays = _Folder(folder.name, store, folder.limit)
    paths = {}
    for file in arrays.names():
        name, _, last = file.rpartition("/")
        if last in (".zarray", "zarr.json"):
            paths[name.replace(".", "/")] = (name, "zarr3" if last == "zarr.json" else "zarr")
    prefixes = ("target/", "params/") if part == _WEIGHTS else (f"{part}/",)
    for prefix in prefixes:
        if inside := {k.removeprefix(prefix): v for k, v in paths.items() if k.startswith(prefix)}:
            paths = inside
            break
    else:  # weights may stand there without a name; an optimizer's state may not
        paths = paths if part == _WEIGHTS else {}
    return {
        k: _zarr(
            arrays, name, 3, driver, _STEP_DTYPES if (part, k) == (_OPTIMIZER, _STEP) else _DTYPES
        )
        for k, (name, driver) in paths.items()
    }


# Both.


def _zarr(
    folder: _Folder,
    path: str,
    version: int,
    driver: str = "zarr",
    dtypes: tuple[str, ...] = _DTYPES,
) -> StoredArray:
    """Opens a zarr array; a missing chunk is an error, not zeros."""
    path = path.strip("/")
    if ".." in path.split("/"):
        raise ValueError(f"the path {path!r} in {folder.name} leads out of the checkpoint.")
    metadata = folder.below(path + "/").read(zarr_metadata.FILES[driver])
    zarr_metadata.check(metadata, driver, path, folder.limit)
    # Spec metadata is not passed on: the array on disk knows its chunks and compressor itself.
    store = folder.at(path + "/")
    spec = {"driver": driver, "kvstore": store, "fill_missing_data_reads": False}
    try:
        array = ts.open(spec, open=True, read=True).result()
    except ValueError as error:
        raise OSError(str(error)) from error
    _check_stored_dtype(array.dtype.name, version, str(store["path"]), dtypes)

    def fill(index: Index, out: np.ndarray) -> None:
        try:
            if array.dtype.name == "uint16":
                out[...] = _as_floats(array[index].read().result(), version)
            else:
                ts.array(out).write(ts.cast(array[index], out.dtype.name)).result()
        except ValueError as error:
            raise OSError(str(error)) from error

    return StoredArray(tuple(array.shape), fill)


def _check_stored_dtype(
    dtype: str, version: int, name: str, dtypes: tuple[str, ...] = _DTYPES
) -> None:
    if dtype not in dtypes and not (dtype == "uint16" and version < 3):
        raise ValueError(
            f"{name} is stored as {dtype}; weights may be stored as {', '.join(dtypes)} (and, "
            "before version 3, as uint16). Take the checkpoint that T5X wrote."
        )


def _as_floats(array: np.ndarray, version: int) -> np.ndarray:
    _check_stored_dtype(array.dtype.name, version, "an array of the index")
    # Before version 3 the bits of bfloat16 were stored as uint16.
    return array.view("bfloat16") if array.dtype == np.uint16 else array


def _canonical(leaves: Leaves, source: str) -> Leaves:
    """Renames T5X's scanned stacks, and uses one relative bias for all layers of a stack.

    T5X's scanned T5 (`examples/scalable_t5`) calls the stack of layers `encoder/encoder` and keeps
    a table of relative positions in every layer.
    """
    renamed = {
        re.sub(r"^(encoder|decoder)/\1/", r"\1/layers/", name): leaf
        for name, leaf in leaves.items()
    }
    if not any("layers" in name and "relpos_bias" in name for name in renamed):
        return renamed
    tables: dict[str, list[StoredArray]] = {}
    for name, leaf in lazy.unroll(renamed).items():
        if match := _RELPOS.match(name):
            tables.setdefault(f"{match[1]}/{match[3]}", []).append(leaf)
    canonical = {
        n: leaf for n, leaf in renamed.items() if not re.search(r"layers.*/relpos_bias/", n)
    }
    for name, parts in tables.items():
        first, *others = [part.read("float32") for part in parts]
        if any(not np.array_equal(first, other, equal_nan=True) for other in others):
            raise ValueError(
                f"the layers of {source} have different tables of relative positions ({name}); T5 "
                "shares one in each stack. This is another architecture (such as UMT5)."
            )
        canonical[name] = from_array(first)
    return canonical
