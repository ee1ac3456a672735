"""Checkpoints behind URLs, with stand-ins for what needs a network."""

import sys
import types

import fsspec
import jax
import numpy as np
import pytest

from spjax import hub as hub_module
from spjax.checkpoints import remote
from spjax.checkpoints.weights import convert, weights
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes

CONFIG = T5Config(40, 8, 2, 3, 12, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder, and the digest of what it holds."""
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), weight_shapes(CONFIG))
    path = tmp_path_factory.mktemp("m") / "w.safetensors"
    weights.save(path, tree, {}, dtype="float32")
    return convert.convert(str(path), path.parent / "hf", "huggingface"), weights.digest(tree)


@pytest.fixture
def hub(monkeypatch, folder):
    """A huggingface_hub that has one repository."""
    hub_module.model_folder.cache_clear()
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision))
        if name != "google/tiny":
            raise OSError(f"404: no repository {name}.")
        assert "model.safetensors" in allow_patterns
        return str(folder[0])

    module = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    yield asked
    hub_module.model_folder.cache_clear()


def test_a_folder_in_memory_is_read_like_a_local_one(folder):
    system = fsspec.filesystem("memory")
    for file in folder[0].iterdir():
        system.pipe_file(f"/bucket/tiny/{file.name}", file.read_bytes())
    url = "memory://bucket/tiny"
    assert weights.kind(url) == "huggingface" and weights.config_of("auto", url) == CONFIG
    assert weights.digest(weights.load("auto", url)) == folder[1]
    single = "memory://bucket/tiny/model.safetensors"
    assert weights.kind(single) == "spjax"
    with pytest.raises(ValueError, match="'memory://bucket/none' .absent. is not"):
        weights.find("auto", "memory://bucket/none")


def test_a_repository_of_the_hub(folder, hub):
    url = "hf://google/tiny@main"
    assert weights.digest(weights.load("auto", url, "float32")) == folder[1]
    assert weights.find("auto", url) == str(folder[0])
    assert hub == [("google/tiny", "main")]  # once, however often it is asked for
    assert weights.fingerprint("auto", url)
    with pytest.raises(ValueError, match="cannot fetch hf://google/none: 404.*hf auth login"):
        weights.find("auto", "hf://google/none")
    with pytest.raises(ValueError, match="names no repository.*hf://ORGANIZATION/NAME"):
        weights.find("auto", "hf://tiny")


def test_what_is_not_installed_is_named(monkeypatch):
    hub_module.model_folder.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = r"hf://google/tiny needs the package huggingface_hub.*pip install -e '/.*\[hub\]'"
    with pytest.raises(ValueError, match=message):
        weights.find("auto", "hf://google/tiny")
    for scheme, package, extra in [("gs", "gcsfs", "gcs"), ("s3", "s3fs", "s3")]:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match=rf"{package}.*pip install -e '/.*\[{extra}\]'"):
            remote.names(f"{scheme}://bucket/model")
    with pytest.raises(ValueError, match="cannot read nothing://a: .*Use a local path, gs://"):
        remote.names("nothing://a")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match="needs the package fsspec"):
        remote.names("memory://bucket/model")


def test_a_place_that_cannot_be_reached_is_told_at_once(monkeypatch):
    def unreachable(place):
        raise ValueError("ABORTED: All 3 retry attempts failed: Could not resolve host")

    monkeypatch.setattr(weights.t5x, "is_checkpoint", unreachable)
    message = r"cannot reach the checkpoint 'gs://bucket/c': .*Check the address and the"
    with pytest.raises(ValueError, match=message):
        weights.find("auto", "gs://bucket/c")
