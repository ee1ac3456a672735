"""Finds a setting in which a kind of run fits some devices, and takes little time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from spjax.models import T5Config
from spjax.studies import cost
from spjax.studies.hardware.estimates import Memory, StepModel
from spjax.studies.hardware.settings import (
    TYPICAL,
    Setting,
    alternatives,
    chunk_shape,
    configured,
)
from spjax.studies.hardware.topologies import Chip, Topology
from spjax.training.run import Run

_MOST_COMPILED = 4  # settings of a kind of run
_HOPELESS = 2.0  # times the limit, in the model: not worth compiling
_RISE = 1.1  # what twice the runs of a gang must gain, as in `spjax.studies.calibration`
_MOST_DEVICES = 1 << 10


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Result of a compiler.

    Attributes:
      memory: bytes on each device; of a program that does not fit, only their sum counts.
      fits: whether the compiler accepts the program.
      seconds: that it took.
    """

    memory: Memory
    fits: bool = True
    seconds: float = 0.0


Compile = Callable[[Setting, StepModel], Compiled]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A setting of a kind of run and its needs.

    Attributes:
      setting: of a gang.
      memory: bytes on each device.
      fits: whether they are there.
      compiled: whether the memory is a compiler's, not the model's.
      step_seconds: least and most, of a gang's step.
      evaluation_seconds: least and most, of the evaluations of all runs of the gang together.
      row: rows and positions of the largest chunk.
      evaluates_most: whether the evaluation needs more memory than training, in the model.
    """

    setting: Setting
    memory: Memory
    fits: bool
    compiled: bool
    step_seconds: tuple[float, float]
    evaluation_seconds: tuple[float, float]
    row: tuple[int, int]
    evaluates_most: bool = False

    @property
    def device_hours(self) -> tuple[float, float]:
        """Least and most device-hours of a step of one run."""
        scale = self.setting.devices / self.setting.runs / 3600
        least, most = self.step_seconds
        return scale * least, scale * most


@dataclasses.dataclass(frozen=True)
class Search:
    """Search for a setting of a kind of run.

    Attributes:
      run: of which the runs differ in nothing that needs memory, with the longest rows.
      config: of its model, as it is on the devices.
      lengths: the most tokens of an input, without prompt, and of a target.
      topology: the devices.
      gang: runs that could train side by side; 1 for those that train one by one.
      gang_width: the study's; 0 to choose.
      compile: the compiler of the devices; None for the model alone.
      evaluated: as `lengths`, in evaluations; None for those of training.
    """

    run: Run
    config: T5Config
    lengths: tuple[int, int]
    topology: Topology
    gang: int = 1
    gang_width: int = 0
    compile: Compile | None = None
    evaluated: tuple[int, int] | None = None

    def best(self) -> tuple[Fit | None, Fit | None]:
        """Returns the fit of the run as configured (None if no mesh), and the one to use.

        The second is the first where that fits. Settings that change the numbers of a run are only
        looked at where no other fits; it is None where nothing does.
        """
        first = None
        for devices in self.topology.meshes:
            setting = configured(self.run, devices)
            if setting is None:
                continue
            first = self.fit(self._widened(setting))
            if first.fits:
                return first, first
        for changes in (False, True):
            if (found := self._first_that_fits(self._by_cost(changes))) is not None:
                return first, found
        return first, None

    def fit(self, setting: Setting) -> Fit:
        """Returns the needs of a setting, by the compiler where there is one and it may fit."""
        fit, model = self._modeled(setting)
        limit = self.topology.chip.limit
        arrays = fit.memory.weights + fit.memory.state
        if self.compile is None or arrays > limit or fit.memory.total > _HOPELESS * limit:
            return fit
        compiled = self.compile(setting, model)
        fits = compiled.fits and compiled.memory.total <= limit
        return dataclasses.replace(fit, memory=compiled.memory, fits=fits, compiled=True)

    def _modeled(self, setting: Setting) -> tuple[Fit, StepModel]:
        run, chip = setting.applied(self.run), self.topology.chip
        shape = chunk_shape(self.run, self.config, setting, self.lengths)
        short = chunk_shape(self.run, self.config, setting, self.lengths, TYPICAL)
        model = StepModel(run, self.config, setting, shape, self.evaluated or self.lengths)
        memory, answers = model.memory(), model.answers()
        evaluates_most = answers > memory.activations
        if evaluates_most:
            memory = dataclasses.replace(memory, activations=answers)
        evaluation = evaluation_seconds(run, model, chip)
        seconds = model.seconds(chip, short)
        row = (shape.rows, shape.length)
        fits = memory.total <= chip.limit
        fit = Fit(setting, memory, fits, False, seconds, evaluation, row, evaluates_most)
        return fit, model

    def _by_cost(self, changes_numbers: bool) -> list[Fit]:
        """Returns settings that fit in the model, those of least device time first."""
        fits = [
            self._modeled(setting)[0]
            for devices in self.topology.meshes
            for setting in self._unlike(alternatives(self.run, devices), changes_numbers)
        ]
        return sorted(
            (fit for fit in fits if fit.memory.total <= self.topology.chip.limit),
            key=lambda fit: (fit.device_hours[1], fit.memory.total),
        )

    def _unlike(self, settings: Iterable[Setting], changes_numbers: bool) -> Iterable[Setting]:
        tried = {configured(self.run, devices) for devices in self.topology.meshes}
        for setting in settings:
            if setting not in tried and setting.changes_numbers(self.run) == changes_numbers:
                yield setting

    def _first_that_fits(self, fits: list[Fit]) -> Fit | None:
        if self.compile is None:
            return self.fit(self._widened(fits[0].setting)) if fits else None
        for fit in fits[:_MOST_COMPILED]:
            checked = self.fit(self._widened(fit.setting))
            if checked.fits:
                return checked
        # The model was too hopeful: the least of all, whatever its time.
        rest = sorted(fits[_MOST_COMPILED:], key=lambda fit: fit.memory.total)
        last = self.fit(rest[0].setting) if rest else None
        return last if last is not None and last.fits else None

    def _widened(self, setting: Setting) -> Setting:
        """Returns a setting with as many runs side by side as gain time and fit, in the model."""
        if self.gang_width or self.gang == 1:
            width = min(self.gang_width or 1, self.gang)
            return dataclasses.replace(setting, runs=width)
        best = self._modeled(setting)[0]
        while best.setting.runs < self.gang:
            wider = dataclasses.replace(setting, runs=min(2 * best.setting.runs, self.gang))
            fit = self._modeled(wider)[0]
            gain = sum(best.device_hours) / sum(fit.device_hours)
            more = wider.runs / best.setting.runs
            if not fit.fits or gain < 1 + (_RISE - 1) * (more - 1):
                break
            best = fit
        return best.setting

    def devices_needed(self) -> int:
        """Returns how many such devices would do, in the model, by powers of two; 0 if none."""
        count = max(1, self.topology.count)
        while (count := 2 * count) <= _MOST_DEVICES:
            larger = dataclasses.replace(self.topology, shape=(count,))
            if dataclasses.replace(self, topology=larger, compile=None)._by_cost(False):
                return count
        return 0


def evaluation_seconds(run: Run, model: StepModel, chip: Chip) -> tuple[float, float]:
    """Returns the least and the most seconds of all evaluations of a gang's runs."""
    steps = run.steps if run.method.trained else 0
    times = model.setting.runs * (steps / max(run.eval_period, 1) + 1)
    examples = run.eval_examples or cost.EXAMPLES_PER_EVALUATION
    least, most = model.evaluation_seconds(chip, examples)
    return times * least, times * most
