"""Plans of hardware: whether a study's runs fit some devices, how, and how long they take."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spjax import subprocesses
from spjax.api.messages import python_messages
from spjax.api.studies import gin_texts, plan_study
from spjax.studies.hardware import kinds, report, topologies, tpu_compiler
from spjax.studies.hardware.report import KindPlan
from spjax.studies.hardware.topologies import Topology

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class HardwarePlan:
    """Memory and time of a study on some devices.

    Attributes:
      study: its name.
      topology: the devices.
      kinds: one entry for each kind of run, in the order of the study.
    """

    study: str
    topology: Topology
    kinds: Sequence[KindPlan]

    @property
    def fits(self) -> bool:
        """Returns whether every run fits, as configured or with other settings."""
        return all(plan.chosen is not None for plan in self.kinds)

    @property
    def text(self) -> str:
        """Returns the table, what to change, and the sum."""
        return report.text(self.kinds, self.topology)

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """Returns one row for each kind of run; memory in bytes, time in seconds and hours."""
        import pandas as pd

        return pd.DataFrame([_row(plan) for plan in self.kinds])


def plan(
    gin_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    topology: str,
    bindings: Mapping[str, Any] | None = None,
    *,
    search_paths: Sequence[str | os.PathLike[str]] = (),
) -> HardwarePlan:
    """Plans a study on devices that need not be here; trains nothing and reads no weights.

    For TPUs every kind of run is compiled ahead of time, in half a minute to minutes each, and kept
    in the user's cache folder; that needs the extra `tpu`. Memory of GPUs and CPUs is modeled.

    Args:
      gin_file: one or several files that bind `Study` and `Arm`, as of `spjax.sweep`.
      topology: such as "v5e:4x4", "v4:2x2x4", "gpu:h100:8" or "cpu:2".
      bindings: as of `spjax.sweep`.
      search_paths: further folders with gin files.

    Raises:
      ValueError: an unknown topology, libtpu is not installed, or the study cannot be read.
    """
    is_one = isinstance(gin_file, (str, os.PathLike))
    files = [os.fspath(file) for file in ([gin_file] if is_one else gin_file)]  # type: ignore
    with python_messages():
        paths = [os.fspath(path) for path in search_paths]
        return plan_files(files, gin_texts(bindings), paths, topology)


def plan_files(
    gin_files: Sequence[str],
    bindings: Sequence[str],
    search_paths: Sequence[str],
    topology: str,
    told: Callable[[KindPlan], None] = lambda plan: None,
) -> HardwarePlan:
    """Plans a study as `plan` does.

    Args:
      gin_files: as of `plan_study`.
      bindings: as of `plan_study`.
      search_paths: as of `plan_study`.
      topology: as of `plan`.
      told: called with each kind of run when it is planned.

    Raises:
      ValueError: as `plan`.
    """
    devices = topologies.parse(topology)
    is_tpu = devices.chip.platform == "tpu"
    if is_tpu:
        tpu_compiler.check_installed()
    planned = plan_study(gin_files, bindings, search_paths, "results")
    every = kinds.of(planned.specs)
    # Each kind has a process of its own, and what it has compiled is kept if another one fails.
    groups = [[kind] for kind in every] if is_tpu else [every]
    plans = []
    for group in groups:
        width, crash = planned.study.gang_width, ""
        try:
            answers = _fits([kinds.request(x, devices.name, width) for x in group])
        except RuntimeError as error:
            if not is_tpu:
                raise
            crash = str(error).splitlines()[0].rstrip(":")
            answers = _fits([kinds.request(x, devices.name, width, False) for x in group])
        for kind, answer in zip(group, answers):
            configured, chosen = map(kinds.read_fit, (answer["configured"], answer["chosen"]))
            if chosen == configured:
                chosen = configured
            is_cpu = devices.chip.platform == "cpu"
            plans.append(
                KindPlan(kind, configured, chosen, answer["devices_needed"], is_cpu, crash)
            )
            told(plans[-1])
    return HardwarePlan(planned.study.name, devices, plans)


def _fits(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the answers of `kinds.fits`, from a process of its own.

    Raises:
      RuntimeError: the process has ended in another way, such as in a crash of the compiler.
    """
    (answers,) = subprocesses.run(
        "spjax.studies.hardware.kinds:fits",
        [requests],
        "plans runs",
        variables=tpu_compiler.VARIABLES,
    )
    return list(answers)


def _row(plan: KindPlan) -> dict[str, Any]:
    model, method, lengths = plan.kind.label
    row: dict[str, Any] = {"model": model, "method": method, "prompt_length": lengths}
    row |= {"runs": len(plan.kind.specs), "fits": plan.chosen is not None}
    row["as_configured"] = plan.chosen is not None and plan.chosen is plan.configured
    row["evaluation_tokens"] = plan.kind.evaluated[0] if plan.kind.evaluated else math.nan
    fit = plan.shown
    if fit is None:
        return row
    setting, memory = dataclasses.asdict(fit.setting), dataclasses.asdict(fit.memory)
    names = {"runs": "gang_width", "data": "data_devices", "model": "model_devices"}
    row |= {names.get(name, name): x for name, x in setting.items()}
    row |= {f"{name}_bytes": x for name, x in memory.items()}
    row |= {"bytes": fit.memory.total, "compiled": fit.compiled}
    pairs = {"step_seconds": fit.step_seconds, "device_hours": plan.device_hours}
    for name, (least, most) in pairs.items():
        row |= {name: report.middle(least, most), f"least_{name}": least, f"most_{name}": most}
    return row
