"""Evidence for claims: scores to look up, differences with margins, verdicts from parts."""

import math
from dataclasses import dataclass, field

import pandas as pd

from spjax.analysis import statistics

ERRORS = 2.0  # standard errors in the margin of a comparison fixed beforehand
# In that of the best or worst of several: among three equal means, of three seeds each, the outer
# two are 3.07 apart in one study of twenty (Tukey's range, 6 degrees of freedom).
ERRORS_OF_BEST = 3.0
HOLDS, FAILS, MIXED, NOT_MEASURED = "holds", "fails", "mixed", "not measured"


@dataclass(frozen=True)
class Claim:
    """One claim and its verdict on the results.

    Attributes:
      id: for example "C1".
      statement: the claim in words.
      criterion: the rule for the verdict, in words.
      verdict: holds, fails, mixed or not measured.
      evidence: the numbers in words.
      numbers: the differences the verdict rests on, in points, each followed by its margin
        (".. margin").
    """

    id: str
    statement: str
    criterion: str
    verdict: str
    evidence: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """Mean suite score of one line (key: prompt length or initialization) at one model, percent."""

    line: str
    model: str
    length: int
    mean: float
    error: float


@dataclass(frozen=True)
class Difference:
    """A difference of scores in points, its standard error, and the margin as a multiple of it."""

    value: float
    error: float
    errors: float = ERRORS

    @property
    def margin(self) -> float:
        """Returns the difference in points that seeds alone may cause."""
        return self.errors * self.error

    def __str__(self) -> str:
        return f"{self.value:+.1f} [{self.margin:.1f}]"

    @property
    def above(self) -> bool:
        """Returns whether the difference is positive by more than the margin."""
        return self.value > self.margin


class Scores:
    """Suite scores looked up by key (prompt length or initialization) and model.

    models: those with a prompt score, smallest first. full: full fine-tuning, smallest first.
    default: the default prompt length. notes: the suite's.
    """

    def __init__(self, suite: statistics.Suite, key: str, default: int) -> None:
        self.default, self.notes = default, suite.notes
        cells = suite.cells
        self.full: list[Cell] = []
        self._cells: dict[tuple[int | str, str], Cell] = {}
        for row in cells[cells["seeds"] > 0].sort_values("model_parameters").itertuples():
            cell = Cell(row.line, row.model, row.prompt_length, row.mean, row.error)
            if row.variant == statistics.FULL_FINE_TUNING:
                self.full.append(cell)
            elif row.variant == statistics.PROMPT_TUNING:
                self._cells[getattr(row, key), row.model] = cell
        self.models = list(dict.fromkeys(model for _, model in self._cells))

    @classmethod
    def lengths(cls, results: pd.DataFrame) -> "Scores":
        """Returns the scores by prompt length, of rows of results.csv, beside full fine-tuning."""
        suite = statistics.suite(statistics.main_runs(results))
        prompts = (results["method"] == statistics.PROMPT_TUNING).any()
        default = statistics.default_length(results) if prompts else 0
        return cls(suite, "prompt_length", default)

    @classmethod
    def initialisations(cls, results: pd.DataFrame) -> "Scores":
        """Returns the scores by initialization, at the default length, of rows of results.csv."""
        if not (results["method"] == statistics.PROMPT_TUNING).any():
            return cls.lengths(results)
        suite = statistics.suite(statistics.initialisation_runs(results))
        return cls(suite, "init", statistics.default_length(results))

    def at(self, key: int | str, model: str) -> Cell | None:
        """Returns the score of one key at one model, None where there is none."""
        return self._cells.get((key, model))

    def line(self, key: int | str) -> list[Cell]:
        """Returns the scores of one key, smallest model first."""
        return [cell for model in self.models if (cell := self.at(key, model))]

    def column(self, model: str) -> list[Cell]:
        """Returns the scores of one model, shortest prompt first."""
        cells = (cell for (_, other), cell in self._cells.items() if other == model)
        return sorted(cells, key=lambda cell: cell.length)


class Judge:
    """Collects the parts of a claim and the numbers they rest on."""

    def __init__(self, name: str, statement: str, criterion: str) -> None:
        self.name, self.statement, self.criterion = name, statement, criterion
        self.parts: list[tuple[bool | None, str]] = []
        self.numbers: dict[str, float] = {}

    def difference(self, more: Cell, less: Cell, name: str = "") -> Difference:
        """Returns more - less; kept among the numbers when it has a name."""
        error = math.hypot(more.error, less.error)
        return self._note(Difference(more.mean - less.mean, error), name)

    def lead(self, cells: list[Cell], less: Cell, name: str) -> tuple[Cell, Difference]:
        """Returns the best of cells, and best - less with the wider margin of a best of several."""
        best = max(cells, key=lambda cell: cell.mean)
        error = math.hypot(best.error, less.error)
        return best, self._note(Difference(best.mean - less.mean, error, ERRORS_OF_BEST), name)

    def minus(self, more: Difference, less: Difference, name: str) -> Difference:
        """Returns more - less of two independent differences."""
        error = math.hypot(more.error, less.error)
        return self._note(Difference(more.value - less.value, error), name)

    def mean(self, differences: list[Difference], name: str) -> Difference:
        """Returns the mean of independent differences."""
        count = len(differences)
        error = math.hypot(*(difference.error for difference in differences)) / count
        value = sum(difference.value for difference in differences) / count
        return self._note(Difference(value, error), name)

    def part(self, holds: bool | None, text: str) -> None:
        """Adds a part; None means that it could not be measured."""
        self.parts.append((holds, text))

    def claim(self, *notes: str) -> Claim:
        """Returns the claim with the verdict over all parts; notes end the evidence."""
        noiseless = any(math.isnan(value) for value in self.numbers.values())
        measured = [holds for holds, _ in self.parts if holds is not None]
        if noiseless or not measured:
            verdict = NOT_MEASURED
        elif all(measured) and len(measured) == len(self.parts):
            verdict = HOLDS
        else:
            verdict = MIXED if any(measured) else FAILS
        verdicts = {True: "yes", False: "no", None: "not measured"}
        letters = [f"({letter}) " if len(self.parts) > 1 else "" for letter in "abc"]
        parts = [
            f"{letter}{text}: {verdicts[None if noiseless else holds]}"
            for letter, (holds, text) in zip(letters, self.parts)
        ]
        end = " (no second seed, so no margin)." if noiseless else "."
        evidence = " ".join(["; ".join(parts) + end, *notes])
        return Claim(self.name, self.statement, self.criterion, verdict, evidence, self.numbers)

    def _note(self, difference: Difference, name: str) -> Difference:
        if name:
            self.numbers[name] = difference.value
            self.numbers[f"{name} margin"] = difference.margin
        return difference
