"""The module for T5X without T5X; with it, see `tests/parity/test_t5x_integration.py`."""

import importlib
import sys

import pytest

from spjax.integrations import t5x_launch


def test_the_error_without_t5x(monkeypatch):
    monkeypatch.setitem(sys.modules, "t5x", None)
    monkeypatch.delitem(sys.modules, "spjax.integrations.t5x", raising=False)
    with pytest.raises(
        ValueError, match="needs T5X.*import of t5x.*clone .*t5x, name the folder.*t5x_launch"
    ):
        importlib.import_module("spjax.integrations.t5x")


def test_the_launcher_runs_a_program_as_main(tmp_path, monkeypatch, capsys):
    """Gin files of T5X refer to `__main__`; the packages that current releases lack are there."""
    package = tmp_path / "t5x"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text(
        "import sys\n"
        "import __main__\n"
        "from airio import core\n"
        "import flax\n"
        "from jax.experimental.pjit import PartitionSpec\n"
        "def train(): pass\n"
        "assert __main__.train is train and __name__ == '__main__' and core.Task\n"
        "flax.optim.Optimizer, PartitionSpec\n"
        "print(sys.argv[1:])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    for name in ("t5x", "airio", "airio.core", "flax.optim"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    t5x_launch.main(["train", "--gin.A=1"])
    assert capsys.readouterr().out == "['--gin.A=1']\n"
    with pytest.raises(SystemExit, match="the program is 'fit'; give train, eval, infer, main"):
        t5x_launch.main(["fit"])


def test_the_launcher_without_t5x(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "t5x", raising=False)
    with pytest.raises(SystemExit, match="no package t5x; clone .* PYTHONPATH"):
        t5x_launch.main(["train"])
