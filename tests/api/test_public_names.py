"""The names of `import spjax`."""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import spjax
from spjax import methods
from spjax.methods import initializers

SOURCE = Path(spjax.__file__)


def names_for_type_checkers():
    """(name, module) of the imports that only type checkers see."""
    (block,) = [
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    return {(alias.asname, node.module) for node in block.body for alias in node.names}


def test_type_checkers_see_every_name():
    assert names_for_type_checkers() == set(spjax._HOMES.items())


@pytest.mark.parametrize("name", spjax.__all__)
def test_every_name_is_there(name):
    value = getattr(spjax, name)
    assert name == "__version__" or value.__name__ == name and value.__doc__
    assert name in dir(spjax)


def test_every_method_and_initializer_is_there():
    for name in methods.names():
        assert getattr(spjax, methods.get(name).__name__) is methods.get(name)
    for name, value in vars(initializers).items():
        ours = getattr(value, "__module__", "") == initializers.__name__
        if ours and dataclasses.is_dataclass(value):
            assert getattr(spjax, name) is value


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'spjax' has no attribute 'PromptTunin'"):
        spjax.PromptTunin  # noqa: B018


def test_import_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.process_time(); import spjax; dir(spjax)\n"
        "assert not {'jax', 'numpy', 'gin', 'pandas'} & set(sys.modules)\n"
        "print(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1  # seconds of CPU


def test_the_documentation_lists_every_name():
    table = (SOURCE.parent.parent / "docs" / "python.md").read_text()
    absent = [name for name in spjax.__all__[1:] if f"`{name}`" not in table]
    assert not absent
