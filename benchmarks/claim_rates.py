"""False-positive rates and power of the verdicts: `python -m benchmarks.claim_rates`.

    python -m benchmarks.claim_rates [--study=graded] [--shape=exponential] [--studies=400]
        [--tasks=9] [--draws=3] [--seeds=5] [--out=FILE]

Every study is drawn from a known truth and judged by `claims.judge`, with the correction over its
claims. In a row one part of one claim is moved, and all other parts are true by the effects of
`TRUTH`:

    at the margin   the part is just not true: any verdict but "cannot tell" is false
    inside          all parts are true: the share of "holds" is the power
    outside         the part is wrong by 3 points: the share of "contradicted" is the power

The noise is that of a kept study on the pocket edition, `NOISES` and `--study`: of the older one,
whose pre-training draws are an assumption, or of the one on the graded ladder, as
`python -m benchmarks.claim_noise` measures it. The effect itself differs by task, either normal
with half its size as deviation or exponential, so that few tasks have most of it. Saturation is
simulated with curves S - a P^-b, and wrong where P* is below the true length. A second table has
the power of larger studies. Writes `benchmarks/results/claim_rates_SHAPE.json`, of the graded study
`claim_rates_graded_SHAPE.json`. About two minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from spjax.analysis import arms, claims, criteria, saturation
from spjax.analysis.criteria import CONTRADICTED, HOLDS, MARGIN, MILD
from spjax.analysis.evidence import Evidence
from spjax.analysis.resampling import Estimate, Sample

RESULTS = machine.ROOT / "benchmarks" / "results"
OLDER, GRADED = STUDIES = ("older", "graded")
SIZES = {
    OLDER: {"50k": 5e4, "200k": 2e5, "800k": 8e5, "3m": 3.2e6},
    GRADED: {"50k": 52_640, "130k": 126_048, "350k": 3.5e5},
}
LENGTHS = (1, 2, 5, 10, 20, 50, 100, 150)
EFFECT = 3.0  # points beyond a margin
SHAPES = ("normal", "exponential")


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviations in points.

    Attributes:
      run: of a run around its draw of pre-training, on one task at one length.
      draw: of a size as a whole, over its draws.
      draw_of_line: of a draw, for each line of a plot.
      draw_of_task: of a draw, for each task.
      line_of_task: of a line, for each task, around an effect.
      lost, lost_points: share of runs that collapse, and by how many points.
      lost_at_one, lost_points_at_one: the same of runs with one soft token.
    """

    run: float
    draw: float
    draw_of_line: float
    draw_of_task: float = 0.0
    line_of_task: float = 0.25
    lost: float = 0.001
    lost_points: float = 20.0
    lost_at_one: float = 0.001
    lost_points_at_one: float = 20.0


NOISES = {
    # A run and a line on a task as measured there; pre-training draws are assumptions.
    OLDER: Noise(run=1.1, draw=1.0, draw_of_line=0.2),
    # `python -m benchmarks.claim_noise` of the parts of experiments/pocket/results/graded, which
    # finds no noise of a line for each draw or task.
    GRADED: Noise(2.8, 1.6, 0.0, 2.4, 0.0, lost=0.0, lost_at_one=0.12, lost_points_at_one=43.0),
}

# Effects of the parts of claims in points: of C1 to C5 by the scaling study, C2 and C6 to C8 by one
# that compares frozen models.
TRUTH = {
    "rise": 6.0,  # from size to size
    "step": 6.0,  # the rise from 50k to 200k
    "gap": -EFFECT,  # the gap's growth with each tenfold size
    "gain": MARGIN + EFFECT,  # P = 1 to 20 at 50k
    "beyond": 0.0,  # P = 20 to 50 at 200k
    "loss": MILD / 2,  # P = 100 to 150 at 800k and 3m
    "one": MILD - EFFECT,  # P = 1 to longer ones at 3m
    "sampled": EFFECT,  # sampled - uniform at 50k and 200k
    "largest": 0.0,  # labels - both others at 3m
    "multitask": 0.0,  # prompts - multi-task tuning at 3m
    "objective": EFFECT,  # LM adaptation - sentinel below 3m
    "sentinel": 0.0,  # sentinel - span corruption below 3m
    "unstable": EFFECT,  # the smallest - the middle sizes over span corruption
    "adaptation": EFFECT,  # longest - middle adaptation
}
# The claim and the value at which each part is just not true, and the direction away from it.
PARTS = {
    "step": ("C1", -MARGIN, -1),
    "gap": ("C1", 0.0, 1),
    "gain": ("C3", MARGIN, -1),
    "beyond": ("C3", MARGIN, 1),
    "loss": ("C3", 0.0, -1),
    "one": ("C4", MILD, 1),
    "sampled": ("C5", 0.0, -1),
    "largest": ("C5", MARGIN, 1),
    "multitask": ("C2", MARGIN, 1),
    "objective": ("C6", 0.0, -1),
    "sentinel": ("C6", MARGIN, 1),
    "unstable": ("C7", 0.0, -1),
    "adaptation": ("C8", 0.0, -1),
}
SCALING = ("C1", "C3", "C4", "C5")
MEASURED = {OLDER: tuple(dict.fromkeys(claim for claim, *_ in PARTS.values()))}
MEASURED[GRADED] = ("C1", "C3", "C4")
# Tasks, pre-training draws and seeds: of a study, and of those whose power is compared.
UNITS = {OLDER: (9, 3, 5), GRADED: (6, 5, 1)}
LARGER: dict[str, tuple[tuple[int, int, int], ...]] = {
    OLDER: (
        *((9, 1, 5), (9, 3, 5), (9, 5, 5), (9, 8, 5), (9, 3, 15), (9, 5, 15)),
        *((18, 5, 5), (18, 8, 10)),
    ),
    GRADED: (
        *((6, 4, 1), (6, 5, 1), (6, 5, 4), (6, 20, 1), (6, 20, 4)),
        *((12, 5, 1), (12, 5, 4), (12, 20, 4), (24, 5, 4), (24, 20, 4), (48, 20, 4)),
    ),
}


@dataclasses.dataclass(frozen=True)
class Design:
    """Numbers of units of a simulated study, the shape of effects over tasks, and its noise."""

    tasks: int = 9
    draws: int = 3
    seeds: int = 5
    shape: str = "normal"
    study: str = OLDER

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the parameters of its models, smallest first."""
        return {name: int(count) for name, count in SIZES[self.study].items()}

    @property
    def noise(self) -> Noise:
        """Returns the noise of its scores."""
        return NOISES[self.study]


class World:
    """Draws scores of one study.

    random: of the study. design: its numbers of units.
    """

    def __init__(self, random: np.random.Generator, design: Design) -> None:
        self.random, self.design = random, design
        self._effects_T: dict[str, np.ndarray] = {}
        noise = design.noise
        self._draws_M = {name: random.normal(0, noise.draw, design.draws) for name in design.sizes}
        self._tasks_TM = dict.fromkeys(design.sizes, np.zeros((design.tasks, design.draws)))
        if noise.draw_of_task:
            shape = (design.tasks, design.draws)
            self._tasks_TM = {
                name: random.normal(0, noise.draw_of_task, shape) for name in design.sizes
            }
        self._scores: dict[tuple, np.ndarray] = {}

    def effect(self, name: str, points: float) -> np.ndarray:
        """Returns an effect on each task, whose mean over all tasks there could be is `points`."""
        if name not in self._effects_T:
            shape = self.design.tasks
            exponential = self.random.exponential(1, shape)
            normal = 1 + 0.5 * self.random.standard_normal(shape)
            self._effects_T[name] = normal if self.design.shape == "normal" else exponential
        return points * self._effects_T[name]

    def add(self, key: tuple, means_T: np.ndarray) -> None:
        """Adds runs of a cell, key (..., model), around its means by task."""
        design, random, noise = self.design, self.random, self.design.noise
        shape = (design.tasks, design.draws, design.seeds)
        draws_M = self._draws_M[key[-1]] + random.normal(0, noise.draw_of_line, design.draws)
        scores_TMS = means_T[:, None, None] + draws_M[None, :, None]
        scores_TMS = scores_TMS + self._tasks_TM[key[-1]][:, :, None]
        lines_T = random.normal(0, noise.line_of_task, design.tasks)
        scores_TMS = scores_TMS + lines_T[:, None, None]
        scores_TMS = scores_TMS + random.normal(0, noise.run, shape)
        share, points = noise.lost, noise.lost_points
        if key[:2] == ("length", 1):
            share, points = noise.lost_at_one, noise.lost_points_at_one
        lost_TMS = random.random(shape) < share
        self._scores[key] = scores_TMS - (points * lost_TMS - points * share)

    def estimates(self) -> dict[tuple, Estimate]:
        """Returns the estimates of all cells."""
        sample = Sample(np.stack(list(self._scores.values())))
        return {key: sample.estimate(place) for place, key in enumerate(self._scores)}

    def tables(self) -> dict[str, dict[tuple, Estimate]]:
        """Returns the estimates of each kind, the first part of a cell's key, by the others."""
        tables: dict[str, dict[tuple, Estimate]] = {}
        for (kind, *key), estimate in self.estimates().items():
            tables.setdefault(kind, {})[tuple(key)] = estimate
        return tables


def scaling_study(world: World, truth: dict[str, float]) -> Evidence:
    """Returns a study of sizes, lengths and, on the older ladder, initializations."""
    sizes = world.design.sizes
    base_T = 50 + world.random.normal(0, 10, world.design.tasks)
    steps = [0.0, truth["step"], truth["rise"], truth["rise"]]
    logs = np.log10(list(sizes.values()))
    default = 20
    for place, model in enumerate(sizes):
        base_T = base_T + world.effect(f"step {place}", steps[place])
        largest, larger = place == len(sizes) - 1, place >= len(sizes) // 2
        gain = truth["one"] if largest else truth["gain"] if place == 0 else MARGIN + EFFECT
        for length in LENGTHS:
            means_T = base_T
            if length < 20:
                share = 1 - np.log(length) / np.log(20)
                means_T = means_T - world.effect(f"gain {place}", gain * share)
            if length >= 50 and place == 1:
                means_T = means_T + world.effect("beyond", truth["beyond"])
            if length > 100 and larger:
                means_T = means_T - world.effect("loss", truth["loss"])
            world.add(("length", length, model), means_T)
        gap = 12 + truth["gap"] * (logs[place] - logs[0])
        world.add(("full", "", model), base_T + world.effect("gap", gap))
        if world.design.study == GRADED:
            continue
        # Labels lead uniform starts by less and less.
        lead = truth["largest"] if largest else truth["sampled"] / (1 if place < 2 else 3)
        sampled = base_T + world.effect("labels", -truth["largest"] if largest else 0.0)
        uniform = base_T - world.effect(f"uniform {place}", lead)
        for name, means_T in zip(claims.claim_parts.INITS, (base_T, sampled, uniform)):
            world.add(("init", name, model), means_T)
    tables = world.tables()
    return Evidence(sizes, default, tables["length"], tables["full"], tables.get("init", {}))


def frozen_models_study(world: World, truth: dict[str, float]) -> Evidence:
    """Returns a study of frozen models: objectives, adaptation steps, multi-task tuning."""
    base_T = 60 + world.random.normal(0, 10, world.design.tasks)
    adapted, sentinel, spans = ("length", 20), ("arm", arms.SENTINEL), ("arm", arms.SPAN_CORRUPTION)
    sizes = world.design.sizes
    for model in sizes:
        largest = model == "3m"
        lead = world.effect("objective", EFFECT / 2 if largest else truth["objective"])
        world.add((*adapted, model), base_T)
        with_sentinel_T = base_T - lead
        plain_T = with_sentinel_T - world.effect("sentinel", 0 if largest else truth["sentinel"])
        # Over span corruption the smallest is ahead and the middle ones behind; no mean changes.
        share = {"50k": -2 / 3, "200k": 1 / 3, "800k": 1 / 3, "3m": 0.0}[model]
        behind = world.effect("unstable", share * truth["unstable"])
        world.add((*sentinel, model), with_sentinel_T - behind)
        world.add((*spans, model), plain_T - behind)
        world.add(("full", "", model), base_T - world.effect("single", EFFECT))
        shared_T = base_T - world.effect("multitask", truth["multitask"])
        world.add(("full", arms.MULTITASK, model), shared_T)
        for place, steps in enumerate((0, 50, 100)):
            short = world.effect("adaptation", truth["adaptation"] * (2 - place))
            share = 0.5 if largest and truth["adaptation"] > 0 else 1.0
            world.add(("arm", f"{arms.ADAPTATION} {steps}", model), base_T - share * short)
    tables = world.tables()
    zeros = _zero_shares(world, truth["unstable"] > 0)
    return Evidence(sizes, 20, tables["length"], tables["full"], {}, tables["arm"], zeros)


def _zero_shares(world: World, failing: bool) -> dict[str, Estimate]:
    """Returns shares of runs that score nothing, a third at the middle sizes where they fail."""
    design = world.design
    shape = (len(design.sizes), design.tasks, design.draws, design.seeds)
    chance = np.array([0.02, 0.35, 0.35, 0.02] if failing else [0.02] * 4)[:, None, None, None]
    sample = Sample(100.0 * (world.random.random(shape) < chance))
    return {model: sample.estimate(place) for place, model in enumerate(design.sizes)}


def rates(part: str | None, position: str, design: Design, studies: int) -> dict[str, float]:
    """Returns shares of verdicts: "C1 holds", "C1 contradicted" and so on.

    part: of PARTS, moved to the position; None for no part.
    """
    truth = dict(TRUTH)
    if part:
        _, bound, away = PARTS[part]
        truth[part] = bound + (away * EFFECT if position == "outside" else 0.0)
    scaling = part is None or PARTS[part][0] in SCALING
    kinds = [scaling_study] if scaling else [frozen_models_study]
    if part is None and design.study == OLDER:
        kinds = [scaling_study, frozen_models_study]
    counts: dict[str, float] = {}
    for number in range(studies):
        for kind in kinds:
            world = World(np.random.default_rng([number, len(kind.__name__)]), design)
            for judgment in claims.judge(kind(world, truth)):
                for verdict in (HOLDS, CONTRADICTED):
                    name = f"{judgment.claim.id} {verdict}"
                    counts[name] = counts.get(name, 0) + (judgment.verdict == verdict) / studies
    return counts


def table(design: Design, studies: int) -> list[dict[str, Any]]:
    """Returns a row for each part: false-positive rates at its margin, and power."""
    inside = rates(None, "inside", design, studies)
    rows = []
    for part, (claim, _, _) in PARTS.items():
        if claim not in MEASURED[design.study]:
            continue
        at_margin = rates(part, "at the margin", design, studies)
        outside = rates(part, "outside", design, studies)
        facts = {"claim": claim, "part": part, "shape": design.shape}
        facts |= {"false holds": at_margin[f"{claim} {HOLDS}"]}
        facts |= {"false contradicted": at_margin[f"{claim} {CONTRADICTED}"]}
        facts |= {"power holds": inside[f"{claim} {HOLDS}"]}
        rows.append(facts | {"power contradicted": outside[f"{claim} {CONTRADICTED}"]})
    return rows


def power(study: str, shape: str, studies: int) -> list[dict[str, Any]]:
    """Returns a row for each design of LARGER: how often each claim holds, and P* is located."""
    rows = []
    for units in LARGER[study]:
        design = Design(*units, shape, study)
        shares = rates(None, "inside", design, studies)
        row = dict(zip(("tasks", "draws", "seeds"), units))
        holds = {claim: shares[f"{claim} {HOLDS}"] for claim in MEASURED[study]}
        rows.append(row | holds | {"P*": saturation_rates(design, studies)["located"]})
    return rows


def saturation_rates(design: Design, studies: int) -> dict[str, float]:
    """Returns shares of studies in which P* is too short, is the true length, or is located."""
    lengths = np.array(LENGTHS, float)
    curve = 80 - 12 * lengths**-0.7
    longest = curve[-1]
    true = int(lengths[longest - curve <= MARGIN][0])
    counts = dict.fromkeys(("too short", "exact", "located", "interval misses"), 0.0)
    for number in range(studies):
        world = World(np.random.default_rng([number, 3]), design)
        base_T = 70 + world.random.normal(0, 10, design.tasks)
        for length, score in zip(LENGTHS, curve):
            key = ("length", length, list(design.sizes)[-1])
            world.add(key, base_T + world.effect("gain", score - curve[0]))
        shortest, length = saturation.interval(LENGTHS, list(world.estimates().values()))
        assert length is not None
        counts["too short"] += (length < true) / studies
        counts["exact"] += (length == true) / studies
        counts["located"] += (length < LENGTHS[-1]) / studies
        counts["interval misses"] += (not shortest <= true <= length) / studies
    return counts | {"true": true}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--study", choices=STUDIES, default=OLDER)
    for name in ("tasks", "draws", "seeds"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--shape", choices=SHAPES, default=SHAPES[0])
    parser.add_argument("--out")
    flags = parser.parse_args(arguments)
    start = time.monotonic()
    numbers = (flags.tasks, flags.draws, flags.seeds)
    units = [number or usual for number, usual in zip(numbers, UNITS[flags.study])]
    design = Design(*units, flags.shape, flags.study)
    facts = {"studies": flags.studies, **dataclasses.asdict(design), "alpha": criteria.ALPHA}
    facts["rows"] = table(design, flags.studies)
    facts["saturation"] = saturation_rates(design, flags.studies)
    facts["power"] = power(flags.study, flags.shape, max(flags.studies // 4, 1))
    facts["seconds"] = round(time.monotonic() - start)
    print(markdown(facts))
    out = flags.out or kept(flags.study, flags.shape)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.write("\n")


def kept(study: str, shape: str) -> Path:
    """Returns the file that the command writes unless it is told another."""
    name = "claim_rates" if study == OLDER else f"claim_rates_{study}"
    return RESULTS / f"{name}_{shape}.json"


def markdown(facts: dict[str, Any]) -> str:
    """Returns both tables, of the contents of a file that the command writes."""
    head = list(facts["rows"][0])
    head.remove("shape")
    lines = [" | ".join(head), " | ".join(["---"] * 2 + ["---:"] * (len(head) - 2))]
    for row in facts["rows"]:
        rates_of = [f"{row[name]:.1%}" for name in head[2:]]
        lines.append(" | ".join([row["claim"], row["part"], *rates_of]))
    head = list(facts["power"][0])
    lines += ["", " | ".join(head), " | ".join(["---:"] * len(head))]
    for row in facts["power"]:
        lines.append(
            " | ".join(f"{x:.0%}" if isinstance(x, float) else str(x) for x in row.values())
        )
    text = "\n".join(f"| {line} |" if line else "" for line in lines)
    saturated = facts["saturation"]
    seeds = f"{facts['seeds']} seed{'s' if facts['seeds'] > 1 else ''}"
    return (
        f"{text}\n\nP* is below the true length in {saturated['too short']:.1%} of the studies of "
        f"{facts['tasks']} tasks, {facts['draws']} draws and {seeds}."
    )


if __name__ == "__main__":
    main()
