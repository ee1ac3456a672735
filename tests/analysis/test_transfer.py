"""The table of scores on other tasks, against hand-made numbers."""

import json

import numpy as np
import pandas as pd
import pytest

from spjax.analysis import statistics, transfer

LINES = [("prompt_tuning", 20), ("full_fine_tuning", 0)]


def results():
    rows = []
    for method, length in LINES:
        for seed in (0, 1):
            value = 70.0 + 10 * seed + length
            rows.append(
                {
                    "arm": "main",
                    "model": "m",
                    "model_parameters": 9,
                    "task": "qqp",
                    "seed": seed,
                    "method": method,
                    "prompt_length": length,
                    "init": "",
                    "status": "finished",
                    "test_score": 90.0,
                    "majority_score": 50.0,
                    "ceiling": 100.0,
                    "validation_metrics": "{}",
                    "test_metrics": json.dumps({"f1": value, "score": 1}),
                    "transfer_metrics": json.dumps({"mrpc": {"f1": value - 20, "accuracy": 3}}),
                }
            )
    return pd.DataFrame(rows)


def test_rows_are_metrics_of_tasks_and_columns_are_lines():
    assert transfer.markdown(results()).splitlines() == [
        "| trained on | model | scored on | metric | P = 20 | full fine-tuning |",
        "| --- | --- | --- | --- | ---: | ---: |",
        "| qqp | m | qqp | f1 | 95.0 ± 7.1 | 75.0 ± 7.1 |",
        "| qqp | m | mrpc | f1 | 75.0 ± 7.1 | 55.0 ± 7.1 |",
        "| qqp | m | mrpc | accuracy | 3.0 ± 0.0 | 3.0 ± 0.0 |",
        "",
        "A task is scored on its test split, or on validation where nobody has test labels.",
    ]


def test_no_table_without_transfer():
    assert transfer.markdown(results().assign(transfer_metrics="{}")) == ""
    assert transfer.markdown(results().drop(columns="transfer_metrics")) == ""


def test_items_of_the_task_trained_on_are_not_those_of_another():
    rows = results()
    rows[statistics.ITEM_SCORES] = [np.array([0.0, 100.0])] * len(rows)
    runs = statistics.main_runs(rows)
    differences = transfer.differences(runs, dict.fromkeys(runs["variant"], ""))
    assert len(differences) == 2
    assert {each.estimate.units["items"] for each in differences} == {1}


@pytest.mark.parametrize("text", ["3", "x", "[]", '{"a": 3}', "[" * 100_000])
def test_metrics_that_are_no_object_are_named(text):
    with pytest.raises(ValueError, match="as transfer_metrics of cb, where a JSON object is want"):
        transfer._metrics({"task": "cb", "transfer_metrics": text}, "transfer_metrics")
