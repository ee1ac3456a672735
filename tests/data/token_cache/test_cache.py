"""A cache is built once, never read when stale or damaged, and complains clearly."""

import dataclasses
import errno
import io
import json
import logging
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spjax import files, subprocesses
from spjax.data.tasks import registry
from spjax.data.token_cache import build_cache, cache, cache_files
from spjax.files import read_json, write_json

TASK = "pocket_boolq"


class Builder:
    """Stands in for the processes that tokenize, and lists the splits of each."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, parts: Sequence[Sequence[Any]], cache_dir: Path, lock: int) -> None:
        for part in parts:
            self.calls.append([f"{wanted.task}/{wanted.split}" for wanted in part])
            for wanted in part:
                cache_files.write(wanted.folder, wanted.key, _examples(wanted.split))


def _examples(split: str) -> list[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    return [
        (np.arange(3, 5 + i), np.array([7, 1]), {"targets_text": f"{split} é {i}", "idx": i})
        for i in range(4)
    ]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    made = Builder()
    monkeypatch.setattr(cache, "_run_builders", made)
    return made


@pytest.fixture
def load(tmp_path: Path, vocabulary_path: Path) -> Any:
    def call(split: str = "train", **options: Any) -> cache.CachedSplit:
        options = {"vocabulary": str(vocabulary_path)} | options
        return cache.load(TASK, split, cache_dir=tmp_path / "cache", **options)

    return call


def test_second_load_builds_nothing(builder: Builder, load: Any) -> None:
    first, second = load(), load()
    assert builder.calls == [[f"{TASK}/train"]]
    assert first.folder == second.folder and second.num_examples == 4
    assert second.inputs[2].tolist() == [3, 4, 5, 6] and second.inputs.values.dtype == np.int32
    assert second.inputs.lengths.tolist() == [2, 3, 4, 5]
    assert second.targets[0].tolist() == [7, 1]
    assert second.examples[3] == {"targets_text": "train é 3", "idx": 3}
    assert isinstance(second.inputs.values.base, np.memmap)


def test_ensure_builds_all_that_is_missing_at_once(
    builder: Builder, load: Any, tmp_path: Path, vocabulary_path: Path
) -> None:
    load()
    names = [TASK, "pocket_cb", TASK]
    cache.ensure(names, cache_dir=tmp_path / "cache", vocabulary=str(vocabulary_path))
    expected = [f"{TASK}/validation", f"{TASK}/test"]
    expected += [f"pocket_cb/{split}" for split in ("train", "validation", "test")]
    assert builder.calls[1:] == [expected]
    cache.ensure(names, cache_dir=tmp_path / "cache", vocabulary=str(vocabulary_path))
    assert len(builder.calls) == 2


def test_what_the_content_depends_on_makes_another_folder(
    builder: Builder, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [load().folder, load(lengths={"inputs": 9, "targets": 12}).folder]
    folders.append(load(vocabulary="pocket").folder)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "source_fingerprint", lambda source: "other code")
        folders.append(load().folder)
    with monkeypatch.context() as patch:
        patch.setattr(cache_files, "FORMAT", cache_files.FORMAT + 1)
        folders.append(load().folder)
    with monkeypatch.context() as patch:
        newer = dataclasses.replace(registry.get(TASK), version="9.0.0")
        patch.setattr(registry, "get", lambda name: newer)
        folders.append(load().folder)
    assert len(set(folders)) == 6 and len(builder.calls) == 6
    assert load().folder == folders[0] and len(builder.calls) == 6


def truncate(folder: Path) -> None:
    data = (folder / "inputs.npy").read_bytes()
    (folder / "inputs.npy").write_bytes(data[:-4])


def edit(folder: Path) -> None:
    data = bytearray((folder / "targets.npy").read_bytes())
    data[-1] ^= 1
    (folder / "targets.npy").write_bytes(bytes(data))


def edit_text(folder: Path) -> None:
    text = (folder / "examples.jsonl").read_text()
    (folder / "examples.jsonl").write_text(text.replace("train", "brain"))


def remove_file(folder: Path) -> None:
    (folder / "inputs_offsets.npy").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def break_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def foreign_manifest(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    manifest["key"]["lengths"]["inputs"] += 1
    write_json(folder / "manifest.json", manifest)


def shorten_manifest(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    del manifest["files"]["inputs.npy"]
    write_json(folder / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, r"inputs.npy has \d+ bytes instead of \d+"),
        (edit, "the checksum of targets.npy is wrong"),
        (edit_text, "the checksum of examples.jsonl is wrong"),
        (remove_file, "inputs_offsets.npy cannot be read"),
        (remove_manifest, "its manifest.json cannot be read"),
        (break_manifest, "its manifest.json cannot be read"),
        (empty_manifest, "its manifest.json cannot be read"),
        (foreign_manifest, "its manifest.json is that of another task"),
        (shorten_manifest, "its manifest.json names the files"),
    ],
)
def test_damage_is_repaired_and_logged(
    damage: Any, reason: str, builder: Builder, load: Any, caplog: pytest.LogCaptureFixture
) -> None:
    damage(load().folder)
    with caplog.at_level(logging.WARNING):
        repaired = load()
    assert len(builder.calls) == 2
    assert repaired.inputs[0].tolist() == [3, 4] and len(repaired.examples) == 4
    assert re.search(f"the token cache {TASK}/train is built again: {reason}", caplog.text)
    load()
    assert len(builder.calls) == 2


def test_leftovers_of_a_killed_build_go(builder: Builder, load: Any) -> None:
    parent = load().folder.parent
    left = parent / f"{cache_files.TEMPORARY}xyz"
    (left / "files").mkdir(parents=True)
    (left / "files" / "inputs.npy").write_bytes(b"half")
    load("validation")
    assert not left.exists() and len(list(parent.iterdir())) == 2


def test_two_processes_build_once(tmp_path: Path, vocabulary_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        arguments = [(tmp_path / "cache", vocabulary_path, tmp_path / "built")] * 2
        counts = pool.starmap(_build_slowly, arguments)
    assert counts == [4, 4]
    assert (tmp_path / "built").read_text() == "built\n"


def _build_slowly(cache_dir: Path, vocabulary_path: Path, built: Path) -> int:
    import time

    def slow(parts: Sequence[Sequence[Any]], cache_dir: Path, lock: int) -> None:
        time.sleep(0.5)
        with open(built, "a") as file:
            file.write("built\n")
        Builder()(parts, cache_dir, lock)

    cache._run_builders = slow
    return cache.load(TASK, "train", None, cache_dir, vocabulary=str(vocabulary_path)).num_examples


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "task" / "split"
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        cache_files.write(folder, {}, _examples("train"))
    assert list(folder.parent.iterdir()) == []


def test_full_disk_in_the_builder_is_a_clear_error(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"error": "[Errno 28] No space left on device: 'inputs.npy'"})
    _answer_with(monkeypatch, f"print('noise'); print({answer!r}); raise SystemExit(1)")
    with pytest.raises(ValueError, match="cannot build the token cache in .*No space left.*room"):
        load()


def test_records_that_cannot_be_used_are_the_builder_s_own_words(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.dumps({"invalid": "rows.jsonl, line 3: no target; give one"})
    _answer_with(monkeypatch, f"print({said!r}); raise SystemExit(1)")
    with pytest.raises(ValueError, match="^rows.jsonl, line 3: no target; give one$"):
        load()


@pytest.mark.parametrize(
    ("raised", "kind"), [(ValueError("bad row"), "invalid"), (OSError("full"), "error")]
)
def test_builder_answers_with_what_went_wrong(
    raised: Exception, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(request: Any) -> int:
        raise raised

    monkeypatch.setattr(build_cache, "build", fail)
    monkeypatch.setattr(sys, "stdin", io.StringIO("[]"))
    assert subprocesses.main(["spjax.data.token_cache.build_cache:build"]) == 1
    assert json.loads(capsys.readouterr().out) == {kind: str(raised)}


def test_crash_of_the_builder_shows_its_last_words(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_with(monkeypatch, "raise KeyError('passage')")
    with pytest.raises(RuntimeError, match="ended with status 1:\n(.*\n)*KeyError: 'passage'"):
        load()


def test_builder_that_builds_rubbish_is_an_error(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_run_builders", lambda *arguments: None)
    with pytest.raises(RuntimeError, match="damaged right after it was built"):
        load()


def _answer_with(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    start = subprocess.Popen

    def instead(command: list[str], **options: Any) -> subprocess.Popen:
        module = ["spjax.subprocesses", "spjax.data.token_cache.build_cache:build"]
        assert command == [sys.executable, "-m", *module]
        return start([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", instead)


def test_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot build the token cache in .*SPJAX_CACHE"):
        cache.load(TASK, "train", None, tmp_path / "file" / "cache")


def test_unknown_split_lists_the_known(load: Any) -> None:
    with pytest.raises(ValueError, match="no split 'dev'; its splits are train, validation, test"):
        load("dev")


@pytest.mark.parametrize("lengths", [{"inputs": 8}, {"inputs": 8, "targets": 1}])
def test_bad_lengths_are_refused(lengths: dict[str, int], load: Any) -> None:
    with pytest.raises(ValueError, match="are not usable; give 'inputs' and 'targets'"):
        load(lengths=lengths)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "there"))
    assert files.default_cache_dir() == tmp_path / "there"
    monkeypatch.delenv("SPJAX_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.default_cache_dir() == tmp_path / ".cache" / "spjax"


def test_importing_loads_no_tensorflow() -> None:
    program = (
        "import spjax.data.token_cache.cache, spjax.data.batching.batching, spjax.metrics, sys; "
        "assert not {'tensorflow', 'seqio', 't5', 'tensorflow_datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
