"""The command on effective numbers of associations, on kept results."""

import math
from pathlib import Path

import pandas as pd
import pytest

from experiments.capacity import effective_items

KEPT = Path("experiments")
ASSOCIATIONS = str(KEPT / "capacity" / "results" / "associations")
SCALING = str(KEPT / "pocket" / "results" / "scaling")


@pytest.mark.slow
def test_table_and_figure_of_a_study(tmp_path, capsys):
    effective_items.main([SCALING, "--capacity", ASSOCIATIONS, f"--output_dir={tmp_path}"])
    assert "c = 16.1 (pocket)" in capsys.readouterr().out
    both = [ASSOCIATIONS, f"{ASSOCIATIONS}_3m"]
    effective_items.main([SCALING, "--capacity", *both, f"--output_dir={tmp_path}"])
    out = capsys.readouterr().out
    assert "| pocket_wsc |" in out and "c = 17.5 (pocket)" in out
    table = pd.read_csv(tmp_path / "effective_items.csv")
    assert set(table["model"]) == {"pocket_50k", "pocket_200k", "pocket_800k", "pocket_3m"}
    assert (table["low"] <= table["high"]).all()
    assert (tmp_path / "figures" / "effective_items.png").is_file()


def test_needs_of_two_models_that_differ_or_agree():
    rows = [("a", "x", 1, 2.0, 8.0), ("b", "x", 2, 3.0, math.inf)]
    rows += [("a", "y", 1, 1.0, 2.0), ("b", "y", 2, 30.0, 40.0)]
    columns = ["model", "task", "model_parameters", "low", "high"]
    text = effective_items.markdown(pd.DataFrame(rows, columns=columns), {"a": 16.0})
    assert "| x | 2 to 8 | 3 or more | 3 to 8 |" in text
    assert "| y | 1 to 2 | 30 to 40 | none |" in text


def test_studies_that_do_not_fit_are_refused(capsys):
    with pytest.raises(SystemExit):
        effective_items.main([ASSOCIATIONS, "--capacity", SCALING])
    assert "the results lack the columns" in capsys.readouterr().err
