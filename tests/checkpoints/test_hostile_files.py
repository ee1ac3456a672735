"""Files of anybody's: sizes that were made up, deep JSON, and what is no regular file."""

import json
import os
import socket

import jax
import msgpack
import numpy as np
import pytest
import safetensors.numpy

from spjax import trees
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft, prompt_files
from spjax.checkpoints.weights import (
    convert,
    huggingface,
    safetensors_files,
    shapes,
    t5x,
    weights,
    zarr_metadata,
)
from spjax.checkpoints.weights.stored_array import StoredArray, check_finite
from spjax.data.tasks import file_rows
from spjax.files import open_regular
from spjax.methods import initializers
from spjax.models import T5Config, get_size
from spjax.models.t5 import weight_shapes
from spjax.vocabularies import vocabulary

DEEP = "[" * 200_000


def npy(path, shape, descr="<f4", data=b""):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        file.write(data)
    return path


def start(path):
    """A prompt of two soft tokens of width 4 that starts as what is at a path."""
    embedding_VD = np.zeros((3, 4), np.float32)
    return initializers.FromFile(str(path))(jax.random.key(0), 2, embedding_VD)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1 << 40, 64), "has 128 bytes, but 281474976710784 by its header"),  # 256 TiB
        ((1 << 62, 1 << 62), "has 128 bytes, but .* by its header"),
        ((-1, 4), "header has the shape"),
        ((2, 3), "has 128 bytes, but 152 by its header"),
    ],
)
def test_shapes_that_were_made_up(tmp_path, shape, message):
    path = npy(tmp_path / "p.npy", shape)
    with pytest.raises(ValueError, match=f"cannot read the array in .*p.npy.*{message}"):
        prompt_files.read_soft_tokens(path)
    with pytest.raises(ValueError, match="cannot read .*p.npy"):
        start(path)


def test_headers_that_are_no_headers(tmp_path):
    path = tmp_path / "p.npy"
    for header in (b"(" * 9000, b"{'descr': '<f4'}", b"[1", b"\xff" * 90):
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        with pytest.raises(ValueError, match="cannot read the array in .*p.npy"):
            prompt_files.read_soft_tokens(path)
    path.write_bytes(b"\x93NUMPY\x07\x00" + bytes(90))
    with pytest.raises(ValueError, match=r"version \(7, 0\) of the format"):
        prompt_files.read_soft_tokens(path)


def not_regular(folder):
    """A pipe, a socket, a device and a folder, as links with any ending."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return [folder / "pipe", folder / "socket", "/dev/zero", folder]


READERS = {
    ".npy": (prompt_files.read_soft_tokens, prompt_files.read, array_files.read_npy),
    ".safetensors": (
        array_files.read_safetensors,
        safetensors_files.read,
        lambda path: weights.load("pocket_50k", str(path)),
    ),
    ".model": (vocabulary.Vocabulary,),
    ".jsonl": (lambda path: list(file_rows.read(path, ["a"])),),
    ".parquet": (lambda path: list(file_rows.read(path, ["a"])),),
    ".prompt": (start,),
}


@pytest.mark.parametrize("ending", READERS)
def test_only_regular_files_are_opened(tmp_path, ending):
    (tmp_path / "x").mkdir()
    for number, special in enumerate(not_regular(tmp_path / "x")):
        path = tmp_path / f"link{number}{ending}"
        path.symlink_to(special)
        for read in READERS[ending]:
            with pytest.raises(ValueError, match=path.name):
                read(path)
    with pytest.raises(OSError, match="it is a named pipe, not a regular file"):
        open_regular(tmp_path / "x" / "pipe")


def test_pipes_inside_folders(tmp_path):
    for name in (huggingface.CONFIG, peft.CONFIG, "prompt.npy", t5x.INDEX):
        folder = tmp_path / name
        folder.mkdir()
        (folder / huggingface.WEIGHTS).write_bytes(b"")
        os.mkfifo(folder / name)
        for read in (
            prompt_files.read_soft_tokens,
            prompt_files.read,
            lambda path: weights.load("auto", str(path)),
        ):
            with pytest.raises(ValueError, match=str(folder)):
                read(folder)
    (tmp_path / t5x.INDEX / t5x.INDEX).unlink()
    (tmp_path / t5x.INDEX / t5x.INDEX).write_bytes(b"")
    os.mkfifo(tmp_path / t5x.INDEX / "pipe")
    with pytest.raises(ValueError, match="it is a named pipe, not a regular file"):
        t5x.open_arrays(tmp_path / t5x.INDEX)


def header(path, content, data=b""):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    "content, data, message",
    [
        (DEEP.encode(), b"", "nested too deeply"),
        ({"a": 1}, b"", "its header has 1 for a"),
        ({"a": {"dtype": "F32", "shape": "xx", "data_offsets": [0, 4]}}, b"1234", "the shape xx"),
        (
            {"a": {"dtype": "F32", "shape": [1 << 70], "data_offsets": [0, 4]}},
            b"1234",
            "contradict",
        ),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234", "the shape"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8), "begins at byte"),
        ({"a": {"dtype": ["x"], "shape": [1], "data_offsets": [0, 4]}}, b"1234", "stored as"),
        ({"__metadata__": [1]}, b"", "has list for metadata"),
        ([1], b"", "not a JSON object"),
    ],
)
def test_headers_of_weights(tmp_path, content, data, message):
    path = tmp_path / "w.safetensors"
    header(path, content, data)
    with pytest.raises(ValueError, match=f"w.safetensors.*{message}|{message}.*w.safetensors"):
        list(safetensors_files.read(path))
    with pytest.raises(ValueError, match="w.safetensors"):
        prompt_files.read_soft_tokens(path)


def test_names_that_are_no_tree():
    with pytest.raises(ValueError, match="that of an array and of a group"):
        trees.unflatten({"a": 1, "a/b": 2})
    with pytest.raises(ValueError, match="has more than 64 parts"):
        trees.unflatten({"a/" * 100_000: 1})


SIZES = {"vocab_size": 40, "d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 12, "num_layers": 2}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_layers": 10**9}, "num_encoder_layers=1000000000"),
        ({"num_decoder_layers": 10**12}, "num_decoder_layers=1000000000000"),
        ({"num_decoder_layers": "2"}, "num_decoder_layers='2'"),
        ({"d_model": 0}, "emb_dim=0"),
        ({"vocab_size": -5}, "vocab_size=-5"),
        ({"d_ff": True}, "no number for d_ff"),
        ({"feed_forward_proj": ["relu"]}, r"feed_forward_proj=\['relu'\]"),
        (None, "nested too deeply"),
    ],
)
def test_configurations_of_hugging_face(tmp_path, change, message):
    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, tmp_path / huggingface.WEIGHTS)
    text = DEEP if change is None else json.dumps({"model_type": "t5", **SIZES, **change})
    (tmp_path / huggingface.CONFIG).write_text(text)
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        weights.load("auto", str(tmp_path))


def test_indices_of_shards(tmp_path):
    (tmp_path / huggingface.CONFIG).write_text(json.dumps({"model_type": "t5", **SIZES}))
    for places in ([1], {"a": 1}, {"a": ["x"]}):
        (tmp_path / huggingface.SHARDS).write_text(json.dumps({"weight_map": places}))
        with pytest.raises(ValueError, match="has no `weight_map` of names to files"):
            weights.load("auto", str(tmp_path))


def test_sizes_of_no_t5():
    with pytest.raises(ValueError, match=r"no T5 of such a size: num_heads=0 \(from 1 to"):
        T5Config(40, 8, 0, 4, 12, 1, 1)
    small = {
        name: StoredArray(shape, None)
        for name, shape in {
            "token_embedder/embedding": (40, 8),
            "encoder/relpos_bias/rel_embedding": (0, 32),
            "encoder/layers_0/attention/query/kernel": (8, 8),
            "encoder/layers_0/mlp/wo/kernel": (12, 8),
        }.items()
    }
    with pytest.raises(ValueError, match="the model in x is no T5: num_heads=0"):
        shapes.config(small, "x")
    with pytest.raises(ValueError, match="that is 1000000000 layers; there may be 1 to 1000"):
        shapes.config({"encoder/layers/mlp/wo/kernel": StoredArray((8, 10**9, 8), None)}, "x")


def index(folder, target, **more):
    folder.mkdir(exist_ok=True)
    content = {"version": 3, "optimizer": {"target": target}, **more}
    (folder / t5x.INDEX).write_bytes(msgpack.packb(content))
    return folder


SPEC = {"driver": "zarr", "kvstore": {"driver": "file", "path": "a"}, "metadata": {"shape": [4]}}


@pytest.mark.parametrize(
    "target, message",
    [
        ({1: {"x": 2}}, "is damaged"),
        ({"a": SPEC | {"kvstore": 3}}, "needs 'zarr' and a path"),
        ({"a": SPEC | {"kvstore": {"path": [1]}}}, "needs 'zarr' and a path"),
        ({"a": SPEC | {"driver": {}}}, "needs 'zarr' and a path"),
        ({"a": SPEC | {"metadata": {"shape": 7}}}, "but the index says 7"),
        ({"a": SPEC | {"kvstore": {"path": "../a"}}}, "leads out of the checkpoint"),
        ({"a": 3}, "neither an array nor a TensorStore spec but int"),
        ({"a": msgpack.ExtType(1, b"abc")}, "is damaged"),
        (
            {"a": msgpack.ExtType(1, msgpack.packb(((1 << 60, 9), "float32", b"1234")))},
            "is damaged",
        ),
        ({"a": msgpack.ExtType(1, msgpack.packb(((1,), "O", b"12345678")))}, "is damaged"),
    ],
)
def test_indices_of_t5x(tmp_path, target, message):
    zarray(tmp_path / "c" / "a", [4], [4])
    with pytest.raises(ValueError, match=f"{tmp_path}.*{message}|{message}"):
        t5x.open_arrays(index(tmp_path / "c", target))
    with pytest.raises(ValueError, match=f"{tmp_path}"):
        t5x.open_arrays(index(tmp_path / "c", {}, version=[3]))


def zarray(folder, shape, chunks):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            "zarr_format": 2,
            "shape": shape,
            "chunks": chunks,
            "dtype": "<f4",
            "order": "C",
            "compressor": None,
            "fill_value": None,
            "filters": None,
        }
    )
    (folder / ".zarray").write_text(text)


@pytest.mark.parametrize(
    "shape, chunks, message",
    [
        ([4], [1 << 44], "asks for .* bytes at once"),
        ([1 << 44], [4], "asks for .* bytes at once"),
        ([1 << 30], [1 << 30], "asks for 4294967296 bytes at once"),  # 4 GiB of a few bytes
        ([4], [0], "has the sizes"),
        ([4], "x", "has the sizes"),
        ([-4], [4], "has the sizes"),
    ],
)
def test_chunks_that_ask_for_all_memory(tmp_path, shape, chunks, message):
    zarray(tmp_path / "c" / "a", shape, chunks)
    with pytest.raises(ValueError, match=f"cannot read the T5X checkpoint .*{message}"):
        t5x.open_arrays(index(tmp_path / "c", {"a": SPEC | {"metadata": {}}}))
    (tmp_path / "c" / "a" / ".zarray").write_text(DEEP)
    with pytest.raises(ValueError, match="nested too deeply"):
        t5x.open_arrays(index(tmp_path / "c", {"a": SPEC}))
    with pytest.raises(OSError, match="zarr.json of a is damaged"):
        zarr_metadata.check(b'{"shape": [1], "chunk_grid": 3}', "zarr3", "a", 100)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(dtype, wrong):
    array = np.zeros((3, 300_000), np.float32).astype(np.dtype(dtype))
    array[1] = np.finfo(np.float32).tiny if dtype == "float64" else 60_000
    check_finite(array, "a")
    array[2, -1] = wrong
    with pytest.raises(ValueError, match="a in x has 1 of 900000 numbers that are NaN or infinite"):
        check_finite(array, "a", "x")
    check_finite(array[:0], "a")


def test_weights_with_nan_are_refused_wherever_they_are_read(tmp_path):
    size = get_size("pocket_50k")
    tree = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), weight_shapes(size))
    name = "encoder/layers_1/mlp/wo/kernel"
    leaves = trees.flatten(tree)
    leaves[name][3, 3] = np.nan
    path = tmp_path / "w.safetensors"
    wanted = f"{name} in .* has 1 of .* NaN or infinite"
    with pytest.raises(ValueError, match=wanted):
        weights.save(path, tree, {})
    safetensors.numpy.save_file(leaves, path)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "x")
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split = jax.tree.map(lambda _: whole, tree)
    for dtype in ("float32", "bfloat16", "int8"):
        for sharding in (None, whole, split):
            with pytest.raises(ValueError, match=wanted):
                weights.read(path, size, dtype, sharding)
    with pytest.raises(ValueError, match=wanted):
        convert.convert(str(path), tmp_path / "out.safetensors", "safetensors")
