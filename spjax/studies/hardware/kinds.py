"""Kinds of runs of a study: those that need the same memory but for the length of their prompts."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spjax import config, partitioning, platforms
from spjax.checkpoints.weights import weights
from spjax.models import T5Config
from spjax.studies.hardware import search, topologies, tpu_compiler
from spjax.studies.hardware.estimates import Memory
from spjax.studies.hardware.search import Fit
from spjax.studies.hardware.settings import Setting
from spjax.studies.plan import RunSpec
from spjax.training.gang import alone_because
from spjax.training.run import Run
from spjax.training.run_data import evaluation_lengths, lengths_of


@dataclasses.dataclass(frozen=True)
class Kind:
    """Runs of a study that differ in nothing that a planner looks at but their rows' length.

    Attributes:
      specs: the runs; the longest rows are those of the first.
    """

    specs: tuple[RunSpec, ...]

    @property
    def run(self) -> Run:
        """The run with the longest rows."""
        return self.specs[0].run

    @property
    def label(self) -> tuple[str, str, str]:
        """Model, method and prompt lengths of the runs."""
        labels = self.specs[0].labels
        lengths = sorted({spec.labels["prompt_length"] for spec in self.specs})
        ends = "-".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
        return labels["model"], labels["method"], ends

    @functools.cached_property
    def evaluated(self) -> tuple[int, int] | None:
        """Most tokens of an input, without prompt, and of a target in evaluations of the runs.

        None where texts are not cut and it is not known how long they are.
        """
        alike = {(spec.run.task, spec.run.vocabulary): spec.run for spec in self.specs}
        lengths = [evaluation_lengths(run) for run in alike.values()]
        known = [(one["inputs"], one["targets"]) for one in lengths if one is not None]
        if len(known) < len(lengths):
            return None
        return max(inputs for inputs, _ in known), max(targets for _, targets in known)

    @property
    def gang(self) -> int:
        """Most runs that may train side by side."""
        if alone_because(self.run):
            return 1
        return max(Counter(spec.gang for spec in self.specs).values())


def of(specs: Sequence[RunSpec]) -> list[Kind]:
    """Returns the kinds of some runs, in the order of their first runs."""
    kinds: dict[Any, list[RunSpec]] = {}
    for spec in specs:
        run = spec.run
        kinds.setdefault(
            (
                *(run.model, run.checkpoint, spec.labels["method"], run.method.trained),
                *(run.batch_size, run.eval_batch_size, run.row_length, run.dropout_rate > 0),
                *(run.weights_dtype, run.num_partitions, str(run.logical_axis_rules)),
                *(run.microbatches, run.remat, run.attention, type(run.optimizer)),
                *(run.num_beams, run.eval_truncation),
            ),
            [],
        ).append(spec)
    return [Kind(tuple(sorted(runs, key=_positions, reverse=True))) for runs in kinds.values()]


def _positions(spec: RunSpec) -> tuple[int, int]:
    lengths = lengths_of(spec.run)
    return spec.run.method.prompt_length + lengths["inputs"], lengths["targets"]


def request(kind: Kind, topology: str, gang_width: int, compiled: bool = True) -> dict[str, Any]:
    """Returns what `fits` needs to know of a kind of run, as JSON can hold it.

    Args:
      kind: of run.
      topology: name of the devices.
      gang_width: as of `Study`.
      compiled: whether to compile for TPUs; their memory is modeled otherwise.
    """
    return {
        "compiled": compiled,
        "text": kind.specs[0].text,
        "topology": topology,
        "gang": kind.gang,
        "gang_width": gang_width,
        "evaluated": kind.evaluated,
    }


def fits(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the settings of some kinds of runs; runs in a process of its own, without devices.

    Args:
      requests: from `request`, with one topology.

    Returns:
      Of each kind `configured`, `chosen` (see `Search.best`; None or a `Fit` as JSON), and
      `devices_needed`, where nothing fits.

    Raises:
      ValueError: there is no such topology, or libtpu is not installed.
    """
    if not requests:
        return []
    topology = topologies.parse(requests[0]["topology"])
    compiles = topology.chip.platform == "tpu" and requests[0]["compiled"]
    compiler = tpu_compiler.Compiler(topology) if compiles else None
    with platforms.compiling_for(topology.chip.platform):
        return [_fit(request, topology, compiler) for request in requests]


def _fit(
    request: dict[str, Any], topology: topologies.Topology, compiler: search.Compile | None
) -> dict[str, Any]:
    run = _stored(request["text"])
    lengths = lengths_of(run)
    searched = search.Search(
        run,
        _scanned(partitioning.for_devices(weights.config_of(run.model, run.checkpoint))),
        (lengths["inputs"], lengths["targets"]),
        topology,
        # On CPU the batch of one run fills the device, as in `gang_widths`.
        request["gang"] if topology.chip.platform != "cpu" or request["gang_width"] else 1,
        request["gang_width"],
        compiler,
        request["evaluated"] and tuple(request["evaluated"]),
    )
    configured, chosen = searched.best()
    needed = 0 if chosen else searched.devices_needed()
    return {
        "configured": configured and dataclasses.asdict(configured),
        "chosen": chosen and dataclasses.asdict(chosen),
        "devices_needed": needed,
    }


def _stored(text: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.gin"
        path.write_text(text, encoding="utf-8")
        return config.load_stored("Run", path)


def read_fit(fit: dict[str, Any] | None) -> Fit | None:
    """Returns the `Fit` of its JSON."""
    if fit is None:
        return None
    values = {**fit, "setting": Setting(**fit["setting"]), "memory": Memory(**fit["memory"])}
    pairs = ("step_seconds", "evaluation_seconds", "row")
    return Fit(**{**values, **{name: tuple(fit[name]) for name in pairs}})


def _scanned(model: T5Config) -> T5Config:
    """Returns a model whose layers are a loop on accelerators, as in training."""
    return dataclasses.replace(model, scan_layers=partitioning.scans_layers())
