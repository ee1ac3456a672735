"""Devices and pipes are never replaced by files."""

import os

import numpy as np
import pytest

from spjax import files
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.cli import main


def test_a_pipe_stays_a_pipe(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or a pipe, which a file would replace"):
        files.write_text(tmp_path / "pipe", "text")
    source = prompt_files.write(
        tmp_path / "p.npy", Prompt.from_array(np.ones((2, 3), np.float32), {})
    )
    code = main.main(["convert", str(source), str(tmp_path / "pipe"), "--format=npy"])
    assert code == 2 and "cannot write the prompt to" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 3
