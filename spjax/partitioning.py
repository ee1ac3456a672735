"""The device mesh, and the sharding of batches, frozen weights and train state over it.

Logical axes and rules have the names of T5X (`t5x/partitioning.py`; axes of each parameter as in
`t5x/examples/t5/layers.py`). The axes of a parameter follow from its path and rank, so the model
carries no annotations.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from spjax import platforms, trees
from spjax.files import default_cache_dir
from spjax.models import T5Config
from spjax.types import Tree

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

MESH_AXES = ("data", "model")
LOGICAL_AXES = (
    "batch",
    "length",
    "vocab",
    "embed",
    "mlp",
    "heads",
    "kv",
    "joined_kv",
    "relpos_buckets",
    "layers",
)

_CPU_POSITIONS = 2048  # what so many keep for the backward pass stays in a CPU's caches

# Axes of T5X and google-research/prompt-tuning that no parameter here has.
_OTHER_AXES = (
    *("abspos_buckets", "stack", "mlp_activations", "prompt", "prompt_embed", "prompt+embed"),
    "tasks",
)
_TENSOR: Rules = (
    ("batch", "data"),
    ("vocab", "model"),
    ("mlp", "model"),
    ("heads", "model"),
    ("joined_kv", "model"),
)
# Earlier rules win where two want one mesh axis. `tensor_parallel` are T5X's standard rules with
# one, `fsdp` those with two dimensions of parameter partitioning.
RULES: dict[str, Rules] = {
    "data_parallel": (("batch", "data"),),
    "tensor_parallel": _TENSOR,
    "fsdp": (*_TENSOR, ("embed", "data")),
}

# Path of a parameter, without its stack and layer, to its axes.
_PARAMETERS = (
    (re.compile(r"(^|/)token_embedder/embedding$"), ("vocab", "embed")),
    (re.compile(r"(^|/)rel_embedding$"), ("heads", "relpos_buckets")),
    (re.compile(r"(^|/)logits_dense/kernel$"), ("embed", "vocab")),
    (re.compile(r"(^|/)(query|key|value)/kernel$"), ("embed", "joined_kv")),
    (re.compile(r"(^|/)out/kernel$"), ("joined_kv", "embed")),
    (re.compile(r"(^|/)wi(_\d)?/kernel$"), ("embed", "mlp")),
    (re.compile(r"(^|/)wo/kernel$"), ("mlp", "embed")),
    (re.compile(r"norm/scale$"), ("embed",)),
)


def logical_axes(path: str, rank: int) -> tuple[str | None, ...]:
    """Returns T5X's logical axis names of a parameter.

    Args:
      path: its T5X name, for example "encoder/layers_0/mlp/wi_0/kernel".
      rank: its number of dimensions; one more than usual if layers are stacked on axis 1.

    Returns:
      One name for each dimension; None for all of them if the path is not in the table.
    """
    for pattern, axes in _PARAMETERS:
        if pattern.search(path):
            if len(axes) == rank:
                return axes
            if len(axes) == rank - 1 and "/layers/" in path:
                return (axes[0], "layers", *axes[1:])
    return (None,) * rank


def rules_of(value: str | Sequence[Any]) -> Rules:
    """Returns rules by name, or a list of pairs checked and made hashable.

    Args:
      value: a name of `RULES`, or pairs (logical axis, mesh axis, several of them, or None).

    Raises:
      ValueError: an unknown name or axis, or an item that is no pair.
    """
    if isinstance(value, str):
        if value not in RULES:
            raise ValueError(
                f"Run.logical_axis_rules is {value!r}; use one of {', '.join(RULES)}, or a list "
                'of pairs such as [("batch", "data"), ("mlp", "model")].'
            )
        return RULES[value]
    rules = []
    for item in value if isinstance(value, Sequence) else [value]:
        if isinstance(item, str) or not isinstance(item, Sequence) or len(item) != 2:
            raise ValueError(
                f"Run.logical_axis_rules holds {item!r}; each rule is a pair of a logical axis "
                'and a mesh axis, such as ("mlp", "model").'
            )
        pair: Sequence[Any] = item
        logical, target = pair
        targets = (target,) if isinstance(target, str) or target is None else tuple(target)
        if logical not in (*LOGICAL_AXES, *_OTHER_AXES):
            raise ValueError(
                f"Run.logical_axis_rules names the logical axis {logical!r}; known axes: "
                f"{', '.join(LOGICAL_AXES)}."
            )
        if not targets or not set(targets) <= {*MESH_AXES, None}:
            raise ValueError(
                f"Run.logical_axis_rules sends {logical} to {target!r}; the mesh has the axes "
                f"{' and '.join(MESH_AXES)} (None keeps a dimension whole)."
            )
        rules.append((logical, targets if len(targets) > 1 else targets[0]))
    return tuple(rules)


def make_mesh(data: int = 0, model: int = 1) -> Mesh:
    """Makes a mesh with the axes `data` and `model`.

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
    return jax.make_mesh((data, model), MESH_AXES, (AxisType.Auto, AxisType.Auto), devices=chosen)


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh and the rules that spread arrays over it.

    A dimension that is not divisible by the devices of its mesh axis stays whole. That concerns
    only bias tables of models with few heads, which are small.

    Attributes:
      mesh: with the axes `data` and `model`.
      rules: logical axis to mesh axis; earlier rules take precedence.
    """

    mesh: Mesh
    rules: Rules = RULES["data_parallel"]

    @property
    def replicated(self) -> NamedSharding:
        """Returns the sharding of arrays that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def is_single_device(self) -> bool:
        """Returns whether there is only one device, so that no sharding is needed."""
        return self.mesh.size == 1

    def sharding(self, axes: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        """Returns the sharding of an array with these logical axes and this shape."""
        wanted: Any = nn.logical_to_mesh_axes(axes, self.rules)
        fits = [axis if self._divides(axis, size) else None for axis, size in zip(wanted, shape)]
        return NamedSharding(self.mesh, PartitionSpec(*fits))

    def _divides(self, axis: str | tuple[str, ...] | None, size: int) -> bool:
        names = axis if isinstance(axis, tuple) else (axis,)
        return size % int(np.prod([self.mesh.shape[name] for name in names if name])) == 0

    def weights(self, base: Tree) -> dict[str, Any]:
        """Returns a tree of shardings for the parameters of a model.

        Args:
          base: arrays or shapes under T5X names.
        """
        return trees.unflatten(
            {
                name: self.sharding(logical_axes(name, len(leaf.shape)), leaf.shape)
                for name, leaf in trees.flatten(base).items()
            }
        )

    def state(self, state: Any, base: Tree) -> Any:
        """Returns a tree of shardings for the train state.

        Changed weights, and optimizer slots of their shape, are sharded like those of the base;
        everything else (prompts, factored slots, counters) is small and replicated.

        Args:
          state: a `TrainState`, or a part of it, of arrays or shapes with a leading run axis.
          base: the frozen weights.
        """
        known = {name: leaf.shape for name, leaf in trees.flatten(base).items()}

        def sharding_of(path: Any, leaf: Any) -> NamedSharding:
            keys = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
            name = "/".join(map(str, keys))
            if known.get(name) != tuple(leaf.shape[1:]):
                return self.replicated
            inner = self.sharding(logical_axes(name, leaf.ndim - 1), leaf.shape[1:])
            return NamedSharding(self.mesh, PartitionSpec(None, *inner.spec))

        return jax.tree_util.tree_map_with_path(sharding_of, state)

    def of_single_run(self, state: Any, base: Tree) -> Any:
        """Returns shapes and shardings of one run's part of the train state; see `state`."""

        def one(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
            spec = PartitionSpec(*sharding.spec[1:])
            run_sharding = NamedSharding(self.mesh, spec)
            return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=run_sharding)

        return jax.tree.map(one, state, self.state(state, base))

    def put_batch(self, batch: Any, stacked: bool = False) -> Any:
        """Moves the arrays of a batch to the devices.

        Rows are sharded by the rule for `batch`, if their number is divisible.

        Args:
          batch: arrays with one number of rows, the same in all processes; each process sends
            the rows of its own devices only.
          stacked: whether rows are the second axis, behind one of steps.
        """
        shape = jax.tree.leaves(batch)[0].shape[: 1 + stacked]
        sharding = self.sharding((None, "batch") if stacked else ("batch",), shape)
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        # Making rows costs less than sending them, so every process makes them all.
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), x.shape),
            batch,
        )

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """Constrains the sharding of an activation inside a compiled program."""
        if self.is_single_device:
            return x
        return jax.lax.with_sharding_constraint(x, self.sharding(axes, x.shape))


def check(num_partitions: int, rules: str | Sequence[Any]) -> Rules:
    """Returns the rules, after the checks that need no devices.

    Raises:
      ValueError: the rules are wrong, or leave the mesh axis `model` without use.
    """
    checked = rules_of(rules)
    if num_partitions < 1:
        raise ValueError(
            f"Run.num_partitions is {num_partitions}; it must be a whole number of at least 1."
        )
    if num_partitions > 1 and not any("model" in str(axis) for _, axis in checked):
        raise ValueError(
            f"Run.num_partitions is {num_partitions}, and no rule of {rules!r} spreads anything "
            "over the mesh axis model. Use 'tensor_parallel' or 'fsdp', or Run.num_partitions = 1."
        )
    return checked


@functools.lru_cache(maxsize=8)
def _placement(num_partitions: int, rules: Rules) -> Placement:
    return Placement(make_mesh(model=num_partitions), rules)


def make_placement(
    num_partitions: int = 1, rules: str | Sequence[Any] = "data_parallel"
) -> Placement:
    """Makes a placement over all devices: some along `model`, the rest along `data`.

    Args:
      num_partitions: devices along `model`, as T5X's `PjitPartitioner.num_partitions`.
      rules: see `rules_of`.

    Raises:
      ValueError: the rules are wrong, or the devices cannot be divided so.
    """
    checked = check(num_partitions, rules)
    devices = jax.device_count()
    if devices % num_partitions:
        raise ValueError(
            f"Run.num_partitions is {num_partitions}, which does not divide the {devices} devices "
            "there are. Use a divisor."
        )
    return _placement(num_partitions, checked)


def of(tree: Any) -> Placement:
    """Returns the placement of a tree's arrays, with rows over `data`."""
    sharding = jax.tree.leaves(tree)[0].sharding
    mesh: Any = getattr(sharding, "mesh", None)
    return Placement(mesh) if isinstance(sharding, NamedSharding) else make_placement()


def for_devices(config: T5Config) -> T5Config:
    """Returns the configuration with bfloat16 activations on accelerators, unchanged on CPU.

    Logits, softmax, norms and losses are computed in float32 everywhere.
    """
    if platforms.current() == "cpu":
        return config
    return dataclasses.replace(config, dtype="bfloat16")


def scans_layers() -> bool:
    """Returns whether the layers of a model should be a loop (`T5Config.scan_layers`).

    On accelerators, where it compiles several times as fast and takes less memory. On CPU the loop
    takes two to three times as long.
    """
    return platforms.current() != "cpu"


def positions_at_once() -> int:
    """Returns the encoder positions to run through the model at a time; 0 for any number."""
    return _CPU_POSITIONS if platforms.current() == "cpu" else 0


def keep_compiled_programs() -> None:
    """Enables JAX's compilation cache in spjax's cache folder, unless it has one.

    Small programs are kept too: the forty of a run take a quarter of a warm start.
    """
    config: Any = jax.config  # its options are attributes that no type lists
    if not config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(default_cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
