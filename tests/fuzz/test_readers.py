"""Every reader of a file, with random bytes, cut and flipped files, and headers that lie."""

import io
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from harness import AMOUNT, SEED, command, function, judged, pipe, report, spread

from spjax import config
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.weights import weights
from spjax.data.corpora import corpora
from spjax.data.tasks import input_rows, registry
from spjax.vocabularies import vocabulary

DEEP = "[" * 100_000
JSON = [
    "",
    "null",
    "3",
    '"x"',
    "[]",
    "{}",
    DEEP,
    '{"a":' * 50_000,
    "{",
    '{"a": 1e999}',
    "NaN",
    '{"a": "\\ud800"}',
    '[{"a": 1}]',
    "\ufeff{}",
    '{"": null}',
    '{"a": 1}{"b": 2}',
]
NPY = b"\x93NUMPY\x01\x00"


def npy(header, data=b""):
    text = header.encode()
    return NPY + struct.pack("<H", len(text)) + text + data


def tensors(header, data=b""):
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes):
    return {"dtype": "F32", "shape": [3, 16], "data_offsets": [0, 192]} | changes


# Headers that say what is not so.
NPYS = (
    [
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}")
        for shape in (2**62, "2**70", -1, "3, 16", "0, 16", "'x'", 2**40, "3, 2**62", "True")
    ]
    + [
        npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (3, 16), }}", bytes(192))
        for kind in ("|O", "<c8", "<U4", "|V9", "<i4", "x", "", "<M8[s]", "<f16")
    ]
    + [
        npy("(" * 3000),
        npy("{}"),
        npy("3"),
        npy(""),
        NPY,
        NPY + b"\xff\xff",
        b"PK\x03\x04",
        b"\x80\x04",
    ]
)
OTHER_FLOATS = [
    npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (3, 16), }}", bytes(384))
    for kind in ("<f2", ">f4", "<f8")
]
SAFE = (
    [
        tensors({"prompt": entry(**changes)}, bytes(192))
        for changes in (
            {"shape": [-3, 16]},
            {"shape": [2**62, 16]},
            {"shape": [3.5]},
            {"shape": "x"},
            {"shape": [[]]},
            {"shape": []},
            {"dtype": "X"},
            {"dtype": 3},
            {"data_offsets": [192, 0]},
            {"data_offsets": [0, 2**63]},
            {"data_offsets": [-1, 191]},
            {"data_offsets": "x"},
            {"data_offsets": [0]},
            {"dtype": "I64", "shape": [3, 8]},
            {"shape": [0, 16]},
        )
    ]
    + [tensors(text) for text in JSON]
    + [
        tensors({}),
        tensors({"prompt": 3}),
        tensors({"prompt": None}),
        b"\xff" * 8,
        b"\0" * 8,
        b"",
        struct.pack("<Q", 2**62) + b"{}",
        tensors({"__metadata__": 3}),
        tensors({"__metadata__": {"a": 1}}),
        tensors({"prompt": entry(), "other": entry()}, bytes(192)),
    ]
)
SIZES = ["0", "-1", "1e9", "1000000000", "true", "null", '"8"', "[]", "0.5", "NaN", "1e999"]


def damaged(data, rng, amount):
    """Cut short, flipped, doubled and with noise: bytes of a valid file made invalid."""
    for _ in range(amount):
        kind, place = rng.integers(5), int(rng.integers(len(data) + 1))
        if kind == 0:
            yield data[:place]
        elif kind == 1:
            byte = rng.integers(1, 256)
            place = min(place, len(data) - 1)
            yield data[:place] + bytes([data[place] ^ byte]) + data[place + 1 :]
        elif kind == 2:
            yield data[:place] + rng.bytes(rng.integers(1, 40)) + data[place:]
        elif kind == 3:
            yield rng.bytes(rng.integers(0, 300))
        else:
            yield data[:place] + data[min(place + int(rng.integers(1, 50)), len(data)) :]


def tried(read, path, contents, fine=True):
    """Reads each content from `path`; what is accepted is fine unless it may not be."""
    outcomes = []
    for i, content in enumerate(contents):
        data = content if isinstance(content, bytes) else content.encode(errors="replace")
        path.write_bytes(data)
        outcome = judged(function(lambda: read(path)), fine)
        outcomes.append((f"{path.name} {i}: {content[:70]!r}", outcome))
    return outcomes


def test_prompts(valid, tmp_path):
    rng = np.random.default_rng(SEED)
    outcomes = tried(prompt_files.read_soft_tokens, tmp_path / "p.npy", NPYS, False)
    outcomes += tried(prompt_files.read_soft_tokens, tmp_path / "p.npy", OTHER_FLOATS)
    outcomes += tried(prompt_files.read_soft_tokens, tmp_path / "p.safetensors", SAFE, False)
    for name in ("prompt.npy", "prompt.safetensors"):
        data = valid[name].read_bytes()
        outcomes += tried(prompt_files.read, tmp_path / name, damaged(data, rng, AMOUNT))
    report(outcomes)


# What `spjax plot` writes into the folder of a study.
WRITTEN = ("table.md", "claims.md")
WRITTEN += tuple(f"figures/score_over_size.{ending}" for ending in ("png", "svg", "csv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peft", "t5x_prompt", "run", "huggingface", "study"])
def test_folders(name, valid, tmp_path):
    """Every file of a folder damaged, empty, missing, a pipe, a folder, and JSON that lies."""
    rng = np.random.default_rng(SEED)
    outcomes = []
    files = [path.relative_to(valid[name]) for path in valid[name].rglob("*") if path.is_file()]
    files = [file for file in files if str(file) not in WRITTEN]
    readers = {"huggingface": read_weights, "study": read_study, "run": read_run}
    read = readers.get(name, read_tuned)
    cases = [(file, kind) for file in files for kind in ("gone", "pipe", "folder", "empty")]
    cases += [(file, text) for file in files for text in JSON if file.suffix == ".json"]
    cases += [(file, None) for file in files for _ in range(3)]
    chosen = spread(cases, rng, AMOUNT // 2)
    chosen += [(Path(x), kind) for x in WRITTEN for kind in ("pipe", "folder") if name == "study"]
    for number, (file, kind) in enumerate(chosen):
        folder = tmp_path / f"{name}{number}"
        shutil.copytree(valid[name], folder, ignore=shutil.ignore_patterns("figures", *WRITTEN))
        path = folder / file
        if kind is None:
            path.write_bytes(next(damaged(path.read_bytes(), rng, 1)))
        elif kind in ("gone", "pipe", "folder", "empty"):
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            {"pipe": pipe, "folder": os.mkdir, "empty": Path.touch}.get(kind, str)(path)
        else:
            path.write_text(kind)
        outcomes.append((f"{name}/{file} {str(kind)[:50]}", judged(read(folder), True)))
        shutil.rmtree(folder)
    report(outcomes)


def read_tuned(folder):
    return function(lambda: prompt_files.read(folder))


def read_weights(folder):
    return function(lambda: weights.load("auto", str(folder), "float32"))


def read_study(folder):
    return command(["plot", str(folder)])


def read_run(folder):
    for argv in (["eval", str(folder)], ["inspect", str(folder)]):
        outcome = command(argv)
        if outcome.kind not in ("clear error", "rightly fine"):
            return outcome
    return outcome


@pytest.mark.parametrize("name", ["peft/adapter_config.json", "huggingface/config.json"])
def test_numbers_of_configs(name, valid, tmp_path):
    """Each number of a config replaced by what is no size."""
    rng = np.random.default_rng(SEED)
    folder, _, file = name.partition("/")
    shutil.copytree(valid[folder], tmp_path / folder)
    known = json.loads((valid[folder] / file).read_text())
    cases = [(key, value) for key in known for value in SIZES]
    read = read_weights if folder == "huggingface" else read_tuned
    outcomes = []
    for key, value in spread(cases, rng, AMOUNT):
        text = json.dumps({**known, key: "VALUE"}).replace('"VALUE"', value)
        (tmp_path / folder / file).write_text(text)
        outcomes.append((f"{file} {key}={value}", judged(read(tmp_path / folder), True)))
    report(outcomes)


ROWS = [
    "",
    "\n\n",
    "x",
    "[]",
    "3",
    "null",
    "{}",
    DEEP,
    '{"input": "a"}',
    '{"input": 3, "target": "b"}',
    '{"input": "a", "target": null}',
    '{"input": "a", "target": []}',
    '{"input": "", "target": ""}',
    '{"input": "a", "target": "\\ud800"}',
    '{"input": "a", "target": "b"}',
    "\0\0\0\0",
    '{"input": "a", "target": "b", "input": "c"}',
    '[{"input": "a", "target": "b"}]',
    "\ufeff",
    '{"input": "' + "a" * 300_000 + '", "target": "b"}\n' * 3,
]
TABLES = [
    "",
    "\n",
    "input,target",
    "input,target\n",
    "input\na\n",
    "input,target\na\n",
    "input,target\na,b,c\n",
    'input,target\n"a,b\n',
    "input,input\na,b\n",
    "a,b\nc,d\n",
    "input;target\na;b\n",
    "\0",
    "input,target\na,\0\n",
    "input,target\r\ra,b\r",
    "\ufeffinput,target\na,b",
    'input,target\n"a""b",c\n',
    "input\ttarget\na\tb\n",
    "input,target\n" + "x" * 200_000 + ",b\n",
]


def read_task(path):
    info = registry.get(str(path))
    from spjax.data import overview

    return overview.examples(info)


def test_task_files(valid, tmp_path):
    rng = np.random.default_rng(SEED)
    outcomes = tried(read_task, tmp_path / "a.jsonl", ROWS)
    outcomes += tried(read_task, tmp_path / "a.json", ROWS)
    outcomes += tried(read_task, tmp_path / "a.csv", TABLES)
    outcomes += tried(read_task, tmp_path / "a.tsv", TABLES)
    for name in ("rows.jsonl", "rows.csv", "rows.tsv", "rows.parquet"):
        data = valid[name].read_bytes()
        outcomes += tried(read_task, tmp_path / name, damaged(data, rng, AMOUNT // 2))
    report(outcomes)


ENDINGS = ["jsonl", "csv", "parquet", "gin", "npy", "safetensors", "model"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_paths_that_are_no_files(ending, special, tmp_path):
    readers = {
        "gin": lambda path: config.load("Run", [path]),
        "npy": prompt_files.read_soft_tokens,
        "safetensors": lambda path: weights.load("pocket_50k", str(path), "float32"),
        "model": vocabulary.load_vocabulary,
    }
    outcomes = []
    for number, place in enumerate(special):
        path = tmp_path / f"x{number}.{ending}"
        if place and "\udcff" not in place and not place.startswith(("~", "é", "x")):
            path.symlink_to(place)
        read = readers.get(ending, read_task)
        outcome = function(lambda: read(str(path)))
        outcomes.append((f"{ending} -> {place}", judged(outcome, False)))
    report(outcomes)


def test_vocabularies(valid, tmp_path):
    rng = np.random.default_rng(SEED)
    data = valid["spiece.model"].read_bytes()
    bad = [b"", b"\0", b"{}", b"\xff" * 100, *damaged(data, rng, AMOUNT // 4)]
    report(tried(lambda path: vocabulary.load_vocabulary(str(path)), tmp_path / "v.model", bad))


def test_weights(valid, tmp_path):
    rng = np.random.default_rng(SEED)
    data = valid["weights.safetensors"].read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    bad = [data[:header][: int(rng.integers(header))] for _ in range(AMOUNT // 8)]
    bad += [x + data[header:] for x in damaged(data[:header], rng, AMOUNT // 4)]
    read = lambda path: weights.load("pocket_50k", str(path), "float32")  # noqa: E731
    report(tried(read, tmp_path / "w.safetensors", [*SAFE, *bad]))


CSV = [
    "",
    "\n",
    "a\n",
    "study,arm\n",
    "x" * 1000,
    "\0",
    '"',
    ",,,\n,,,\n",
]


def test_results(valid, tmp_path):
    """Tables without columns, rows or sense; studies that are not the folder's."""
    rng = np.random.default_rng(SEED)
    text = (valid["study"] / "results.csv").read_text()
    head, *rows = text.splitlines()
    columns = head.split(",")
    tables = [*CSV, head, f"{head}\n", "\n".join([head, rows[0]]), text + "x,y\n"]
    tables += [text + rows[0][:30]]
    for place in range(len(columns)):
        for value in ("", "x", "nan", "-1", "1e999", "9" * 30):
            cells = [row.split(",") for row in rows]
            cells[0][place] = value
            tables.append("\n".join([head, *(",".join(row) for row in cells)]) + "\n")
        fewer = [[c for i, c in enumerate(row.split(",")) if i != place] for row in (head, *rows)]
        tables.append("\n".join(",".join(row) for row in fewer) + "\n")
    tables += [x.decode(errors="replace") for x in damaged(text.encode(), rng, AMOUNT // 4)]
    outcomes = []
    for number, table in enumerate(spread(tables, rng, AMOUNT // 2)):
        folder = tmp_path / f"study{number}"
        shutil.copytree(valid["study"], folder)
        (folder / "results.csv").write_text(table)
        outcomes.append((repr(table[-90:]), judged(command(["plot", str(folder)]), True)))
    report(outcomes)


def test_inputs_of_predict(valid, tmp_path):
    rng = np.random.default_rng(SEED)
    texts = [*ROWS, "é\n", "\x1b[31m\n", "a" * 100_000]
    contents = [text.encode(errors="replace") for text in texts]
    for name in ("inputs.txt", "inputs.jsonl"):
        contents += list(damaged(valid[name].read_bytes(), rng, AMOUNT // 2))
    outcomes = []
    for content in contents:
        for format in ("", *input_rows.FORMATS):
            prompts = {"": input_rows.InputColumns()}
            read = lambda: list(  # noqa: E731
                input_rows.read(io.BytesIO(content), prompts, format=format)
            )
            outcomes.append((f"{format} {content[:60]!r}", judged(function(read), True)))
    for content in spread(contents, rng, 3):
        argv = ["predict", f"--prompt={valid['prompt.npy']}", "-"]
        outcomes.append((repr(content[:60]), judged(command(argv, content), True)))
    report(outcomes)


NAMES = [
    "c4",
    "a-../../x",
    "",
    "=",
    "a=",
    "=b",
    "a=b",
    "../x=c.txt",
    "a=/dev/zero",
    "a=*.txt",
    "a=[",
    "a=seqio:os:system",
    "x" * 300 + "=a.txt",
    "a/b=a.txt",
    "a=~/x.txt",
    "é=a.txt",
]


def test_corpora(valid, tmp_path):
    Path("a.txt").write_text("a text\n" * 50)
    outcomes = []
    for name in NAMES:
        argv = ["cache", f"--corpus={name}", "--vocabulary=pocket"]
        good = name in ("c4", "a=b", "a=seqio:os:system", "a=*.txt", "é=a.txt")
        outcomes.append((name[:60], judged(command(argv), good)))
    for text in JSON:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        (folder / "corpus.json").write_text(text)
        read = lambda: corpora.load(str(folder), "pocket")  # noqa: E731
        outcomes.append((f"corpus.json {text[:50]}", judged(function(read), False)))
    report(outcomes)
