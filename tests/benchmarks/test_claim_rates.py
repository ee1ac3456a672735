"""Simulated studies have the truth they say, and verdicts on them are rarely wrong."""

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import claim_rates
from benchmarks.claim_rates import PARTS, Design
from spjax.analysis.criteria import CONTRADICTED, HOLDS

SMALL = Design(tasks=6, draws=3, seeds=3)
MEASURED = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8")


@pytest.fixture
def quiet(monkeypatch):
    """Hardly any noise, and effects that are the same for all tasks."""
    noise = claim_rates.Noise(*[1e-3] * 5, lost=0.0, lost_at_one=0.0)
    for study in claim_rates.STUDIES:
        monkeypatch.setitem(claim_rates.NOISES, study, noise)
    ones = lambda world, name, points: np.full(world.design.tasks, float(points))  # noqa: E731
    monkeypatch.setattr(claim_rates.World, "effect", ones)


def test_all_claims_are_true_inside(quiet):
    found = claim_rates.rates(None, "inside", SMALL, studies=3)
    assert {claim: found[f"{claim} {HOLDS}"] for claim in MEASURED} == dict.fromkeys(MEASURED, 1)


def test_the_graded_study_has_its_claims_alone(quiet):
    shares = claim_rates.rates(None, "inside", Design(6, 3, 1, study="graded"), studies=2)
    holding = {name.split()[0] for name, share in shares.items() if name.endswith(HOLDS) and share}
    assert holding == {*claim_rates.MEASURED["graded"], "C9"}  # a count


def test_one_soft_token_may_fail():
    world = claim_rates.World(np.random.default_rng(0), Design(6, 50, 4, study="graded"))
    for length in (1, 2):
        world.add(("length", length, "50k"), np.full(6, 50.0))
    noise = claim_rates.NOISES["graded"]
    one, two = (world._scores["length", length, "50k"] for length in (1, 2))
    assert np.mean(one < 50 - noise.lost_points_at_one / 2) == pytest.approx(0.12, abs=0.03)
    assert not (two < 50 - noise.lost_points_at_one / 2).any()
    assert one.mean() == pytest.approx(two.mean(), abs=2)  # lost runs do not move the truth


@pytest.mark.parametrize("part", PARTS)
def test_a_part_moved_is_what_makes_a_claim_false(quiet, part, monkeypatch):
    claim, bound, away = PARTS[part]
    found = claim_rates.rates(part, "outside", SMALL, studies=2)
    wrong = {name for name, rate in found.items() if rate and name.endswith(CONTRADICTED)}
    assert f"{claim} {CONTRADICTED}" in wrong
    # A little to either side of the margin decides it: the truth is at the margin.
    for shift, verdict in ((0.05, CONTRADICTED), (-0.05, HOLDS)):
        monkeypatch.setitem(PARTS, part, (claim, bound + away * shift, away))
        found = claim_rates.rates(part, "at the margin", SMALL, studies=2)
        assert found[f"{claim} {verdict}"] == 1, (shift, verdict)


@pytest.mark.parametrize("part", ["gain", "beyond", "one", "sentinel"])
def test_verdicts_at_the_margin_are_rarely_decided(part):
    claim = PARTS[part][0]
    found = claim_rates.rates(part, "at the margin", Design(), studies=60)
    error = 3 * np.sqrt(0.05 * 0.95 / 60)
    assert found[f"{claim} {HOLDS}"] <= 0.05 + error
    assert found[f"{claim} {CONTRADICTED}"] <= 0.05 + error


def test_saturation_is_never_too_short():
    found = claim_rates.saturation_rates(Design(), studies=40)
    assert found["too short"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    assert found["true"] in claim_rates.LENGTHS


def test_command_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "rates.json"
    flags = ["--studies=1", "--tasks=4", "--seeds=2", "--shape=exponential", f"--out={out}"]
    claim_rates.main(flags)
    text = capsys.readouterr().out
    assert "false holds" in text and "power contradicted" in text
    written = json.loads(out.read_text())
    assert [row["part"] for row in written["rows"]] == list(PARTS)
    assert (written["tasks"], written["shape"]) == (4, "exponential")
    assert claim_rates.markdown(written) in text


@pytest.mark.parametrize("shape", claim_rates.SHAPES)
@pytest.mark.parametrize("study", claim_rates.STUDIES)
def test_tables_of_the_documentation_are_those_kept(study, shape):
    kept = json.loads(claim_rates.kept(study, shape).read_text())
    parts = {part for part, (claim, *_) in PARTS.items() if claim in claim_rates.MEASURED[study]}
    assert kept["shape"] == shape and {row["part"] for row in kept["rows"]} == parts
    units = [(row["tasks"], row["draws"], row["seeds"]) for row in kept["power"]]
    assert units == list(claim_rates.LARGER[study])
    tables = claim_rates.markdown(kept)
    assert tables in (claim_rates.machine.ROOT / "docs/claims.md").read_text()
    error = np.sqrt(0.05 * 0.95 / kept["studies"])
    for row in kept["rows"]:
        assert max(row["false holds"], row["false contradicted"]) <= kept["alpha"] + 2 * error


def test_the_documentation_has_the_rates_of_skewed_effects():
    """Of one test at the margin, where no other claim or part stands in the way."""
    text = (claim_rates.machine.ROOT / "docs/claims.md").read_text()
    random = np.random.default_rng(0)
    stated = ((9, 0.05, 13.6), (9, 0.025, 9.9), (9, 0.0125, 7.1), (18, 0.05, 11.1))
    for tasks, level, said in stated:
        effects = random.exponential(5, (100_000, tasks))
        p_values = stats.ttest_1samp(effects, 5, axis=1, alternative="less").pvalue
        assert 100 * np.mean(p_values <= level) == pytest.approx(said, abs=0.3)
        assert f"{said} %" in text
