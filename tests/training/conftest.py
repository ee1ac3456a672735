import jax
import pytest

from spjax.checkpoints import weights
from spjax.models import get_size
from spjax.models.t5 import init_weights


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Random weights of the smallest pocket size, stored exactly."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    tree = init_weights(get_size("pocket_50k"), jax.random.key(0))
    weights.save(path, tree, {}, dtype="float32")
    return str(path)


@pytest.fixture(autouse=True)
def shared_cache(tmp_path_factory, monkeypatch):
    """One token cache for all tests and test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    monkeypatch.setenv("SPJAX_CACHE", str(shared / "token-cache"))
