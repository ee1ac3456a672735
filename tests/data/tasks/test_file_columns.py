"""Columns that a user's file lacks, and files that cannot be read to the end."""

from pathlib import Path

import pytest

from spjax.api.tasks import load_task
from spjax.data.tasks import file_rows, scored_files
from spjax.data.tasks.file_task import FileTask
from tests.data.tasks.test_file_task import write


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_column_that_no_row_has_is_one_sentence(ending: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / f"films{ending}", [{"title": f"film {i}", "kind": "a"} for i in range(30)]
    )
    with pytest.raises(ValueError) as raised:
        FileTask(path)
    message = f"{path} has no field 'input', only 'title', 'kind'. {file_rows.NAME_COLUMNS}"
    assert str(raised.value) == message
    with pytest.raises(
        ValueError, match='target\'. Name .* template="{COLUMN}" and target="{'
    ) as of:
        load_task(write(tmp_path / f"m{ending}", [{"text": "a", "target": "b"}] * 3))
    assert "gin" not in str(of.value)
    with pytest.raises(ValueError) as scored:
        scored_files.task(path)
    assert "no field 'input'" in str(scored.value) and "gin" not in str(scored.value)


def test_rows_that_were_not_read_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("input,target,input\na,b,c\nd,e,f\n")
    with pytest.raises(ValueError, match="d.csv cannot be read to the end; .*\n- .*d.csv:1: the c"):
        FileTask(str(tmp_path / "d.csv"))
