"""The table of a plan, and what to change where runs do not fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from spjax import text_tables
from spjax.studies import cost
from spjax.studies.hardware.estimates import GOOD, POOR
from spjax.studies.hardware.kinds import Kind
from spjax.studies.hardware.search import Fit
from spjax.studies.hardware.topologies import Topology

_HEAD = (
    *("model", "method", "length", "runs", "fits", "mesh", "rules", "parts", "remat", "weights"),
    *("gang", "rows", "evaluation", "weights GB", "state GB", "activations GB", "all GB"),
    *("step", "device hours"),
)
_RIGHT = (3, 7, 10, 13, 14, 15, 16)
_NOT_COVERED = "not covered"


@dataclasses.dataclass(frozen=True)
class KindPlan:
    """A kind of run, and the setting in which it fits.

    Attributes:
      kind: the runs.
      configured: as the study configures them, None where that mesh does not divide the devices.
      chosen: the setting to use, None where nothing fits.
      devices_needed: so many devices of the kind would do, in the model; 0 where that is not known.
      is_cpu: whether the devices are cores of a CPU.
      crash: how the compiler has crashed, after which memory is modeled; "" if it has not.
    """

    kind: Kind
    configured: Fit | None
    chosen: Fit | None
    devices_needed: int = 0
    is_cpu: bool = False
    crash: str = ""

    @property
    def shown(self) -> Fit | None:
        """Fit in the table: of the chosen setting, or of the configured one that does not fit."""
        return self.chosen or self.configured

    @property
    def device_hours(self) -> tuple[float, float]:
        """Least and most device-hours of all runs of the kind, with evaluations and start-up."""
        fit = self.shown
        if fit is None:
            return math.nan, math.nan
        if self.is_cpu:
            seconds = sum(spec.seconds for spec in self.kind.specs)
            return seconds / 2 / 3600, 2 * seconds / 3600
        steps = sum(spec.run.steps for spec in self.kind.specs if spec.run.method.trained)
        gangs = len(self.kind.specs) / fit.setting.runs
        least, most = (
            steps * hours
            + (gangs * (cost.RUN_SECONDS + seconds) + cost.COMPILE_SECONDS)
            * (fit.setting.devices / 3600)
            for hours, seconds in zip(fit.device_hours, fit.evaluation_seconds)
        )
        return least, most


def table(plans: Sequence[KindPlan], markdown: bool = False) -> str:
    """Returns one line for each kind of run."""
    lines = [_HEAD, *map(_line, plans)]
    if not markdown:
        return text_tables.render(lines, right=_RIGHT)
    rows = [" | ".join(line) for line in lines]
    rule = " | ".join("---:" if i in _RIGHT else "---" for i in range(len(_HEAD)))
    return "\n".join(f"| {row} |" for row in [rows[0], rule, *rows[1:]])


def _line(plan: KindPlan) -> tuple[str, ...]:
    fit, runs = plan.shown, str(len(plan.kind.specs))
    if fit is None:
        return (*plan.kind.label, runs, "no", *("-" for _ in _HEAD[5:]))
    setting, memory = fit.setting, fit.memory
    mesh = f"{setting.data}x{setting.model}"
    rules = setting.rules if isinstance(setting.rules, str) else "as configured"
    parts = str(setting.microbatches)
    remat = "yes" if setting.remat else "no"
    known = [f"{x / 1e9:.2f}" for x in (memory.weights, memory.state, memory.activations)]
    total = f"{memory.total / 1e9:.2f}"
    return (
        *(*plan.kind.label, runs, _verdict(plan), mesh, rules, parts, remat),
        *(setting.weights_dtype, str(setting.runs), f"{fit.row[0]}x{fit.row[1]}"),
        *(_evaluation(plan.kind), *known, total),
        *(_range(*fit.step_seconds, " s"), _range(*plan.device_hours, " h")),
    )


def _evaluation(kind: Kind) -> str:
    """Returns the most tokens of an input in evaluations."""
    if kind.evaluated is None:
        return _NOT_COVERED
    return f"{kind.evaluated[0]} tokens" + ", uncut" * (not kind.run.eval_truncation)


def _verdict(plan: KindPlan) -> str:
    if plan.chosen is None:
        return "no"
    return "yes" if plan.chosen is plan.configured else "with changes"


def middle(least: float, most: float) -> float:
    """Returns the estimate within a range: the geometric mean."""
    return math.sqrt(least * most)


def _range(least: float, most: float, unit: str) -> str:
    if math.isnan(least):
        return "-"
    return f"{short(middle(least, most))}{unit} ({short(least)} to {short(most)})"


def short(number: float) -> str:
    """Returns a number with two digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def advice(plan: KindPlan, topology: Topology) -> str:
    """Returns what to change for a kind of run, "" where it fits as it is configured."""
    if plan.chosen is not None and plan.chosen is plan.configured:
        return ""
    run, limit = plan.kind.run, topology.chip.limit
    name = " ".join(filter(None, plan.kind.label[:2]))
    if plan.configured is None:
        problem = (
            f"{name}: Run.num_partitions is {run.num_partitions}, which does not divide "
            f"{' or '.join(map(str, topology.meshes))} devices."
        )
    else:
        problem = (
            f"{name}: as configured it takes {_gb(plan.configured)} on each device, and there "
            f"are {limit / 1e9:.1f} GB."
        )
    if plan.chosen is None:
        more = (
            f"{plan.devices_needed} such devices would do, by the model."
            if plan.devices_needed
            else "Take devices with more memory, a smaller BATCH_SIZE or shorter rows."
        )
        if plan.configured is not None and plan.configured.evaluates_most:
            more = "Its evaluations need the most: set Run.eval_batch_size lower."
        return f"{problem} No mesh, remat or microbatches make it fit. {more}"
    bindings = plan.chosen.setting.bindings(run)
    changes = "; ".join(bindings) if bindings else f"{plan.chosen.setting.devices} devices a run"
    note = " These are other runs, with other numbers." * plan.chosen.setting.changes_numbers(run)
    return f"{problem} It takes {_gb(plan.chosen)} with {changes}.{note}"


def _uncovered(plans: Sequence[KindPlan]) -> str:
    """Returns why evaluations are not covered and what to do, "" where all are."""
    lacking = [plan.kind for plan in plans if plan.kind.evaluated is None]
    tasks: dict[str, set[str]] = {}
    for run in (spec.run for kind in lacking for spec in kind.specs):
        tasks.setdefault(run.resolved_vocabulary, set()).add(run.task)
    commands = [
        f"`spjax cache --task={','.join(sorted(names))} --vocabulary={vocabulary} "
        "--no_eval_truncation`"
        for vocabulary, names in sorted(tasks.items())
    ]
    if not commands:
        return ""
    return (
        f"Evaluations that are {_NOT_COVERED} may take more memory and time than planned: their "
        "texts are not cut (Run.eval_truncation = False), and how long they are is known when they "
        f"are token ids. Call {' and '.join(commands)}, then this command again."
    )


def _crashed(plan: KindPlan) -> str:
    """Returns a note where the compiler has crashed, "" elsewhere."""
    if not plan.crash:
        return ""
    name = " ".join(filter(None, plan.kind.label[:2]))
    return (
        f"{name}: libtpu has crashed while it compiled ({plan.crash}), so that memory is modeled, "
        "and whether it compiles there is not known; another release of jax[tpu] may do."
    )


def _gb(fit: Fit) -> str:
    return f"{fit.memory.total / 1e9:.1f} GB"


def summary(plans: Sequence[KindPlan], topology: Topology) -> str:
    """Returns the sum of all device-hours, the time on all devices, and what both rest on."""
    hours = [plan.device_hours for plan in plans if plan.chosen is not None]
    left_out = len(plans) - len(hours)
    least, most = (sum(pair[i] for pair in hours) for i in (0, 1))
    wall = 3600 * middle(least, most) / topology.count
    chip = topology.chip
    basis = (
        "the estimate of `spjax sweep --dry_run`, halved and doubled"
        if chip.platform == "cpu"
        else f"{chip.flops / 1e12:.0f} TFLOP/s, {chip.bandwidth / 1e9:.0f} GB/s of memory and "
        f"{chip.interconnect / 1e9:.0f} GB/s between devices ({chip.source}), from "
        f"{GOOD[0]:.0%} of the peak, typical lengths and everything overlapped, to {POOR[0]:.0%}, "
        "longest rows and nothing overlapped; not measured"
    )
    compiled = {plan.shown.compiled for plan in plans if plan.shown is not None}
    memory = "compiled" if compiled == {True} else "modeled"
    if len(compiled) > 1:
        memory = "compiled, or modeled where it was not"
    lacking = f", without the {left_out} lines that do not fit" if left_out else ""
    return (
        f"{_range(least, most, ' device-hours')} on {topology.name}{lacking}; about "
        f"{cost.duration(wall)} on all {topology.count}. An evaluation counts as "
        f"{cost.EXAMPLES_PER_EVALUATION} examples. "
        f"Memory is {memory}; of the {chip.memory / 1e9:.1f} GB of a device "
        f"{chip.limit / 1e9:.1f} are for programs. "
        f"Time from {basis}."
    )


def text(plans: Sequence[KindPlan], topology: Topology) -> str:
    """Returns table, advice and summary."""
    lines = [line for plan in plans for line in (advice(plan, topology), _crashed(plan))]
    changes = list(filter(None, lines))
    parts = (table(plans), "\n".join(changes), _uncovered(plans), summary(plans, topology))
    return "\n\n".join(filter(None, parts))
