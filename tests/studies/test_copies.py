"""Local copies of what is at URLs."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from spjax.studies import copies
from spjax.studies.copies import local_copy
from spjax.studies.store import Store, StoreError
from tests.studies.storages import NAMES, storages  # noqa: F401


@pytest.fixture(params=NAMES)
def store(request, storages, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    store = Store(storages(request.param) + "/study")
    store.create(".lease/00000007", b"{}")
    store.write("results.csv", b"table")
    store.write("runs/key/checkpoints-1-20.zip", archive("old"))
    store.write("runs/key/checkpoints-2-10.zip", archive("new"))
    for name in ("result.json", "prompt.npy", "prompts/boolq.npy", "metrics.jsonl"):
        store.write(f"runs/key/{name}", b"of the run")
    store.write("other/prompt.safetensors", b"1")
    store.write("other/prompt.safetensors.json", b"2")
    store.write("other/large.bin", b"3")
    return store


def archive(text):
    """Bytes of an archive with a checkpoint of step 10 and a log."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("checkpoints/10/state", text)
        archive.writestr("metrics.jsonl", "before the end")
    return file.getvalue()


def names(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "."
    }


def test_a_study_without_checkpoints_and_a_run_with_the_last_ones(store, tmp_path):
    study = Path(local_copy(store.url))
    run = {"result.json", "prompt.npy", "prompts/boolq.npy", "metrics.jsonl"}
    other = {f"other/{name}" for name in ("prompt.safetensors", "prompt.safetensors.json")}
    expected = {"results.csv", "other/large.bin", *other, *(f"runs/key/{name}" for name in run)}
    assert study.name == "study" and names(study) == expected
    folder = Path(local_copy(f"{store.url}/runs/key/"))
    assert names(folder) == {*run, "checkpoints/10/state"}
    assert (folder / "checkpoints/10/state").read_text() == "new"
    assert (folder / "metrics.jsonl").read_text() == "of the run"
    assert local_copy(f"{store.url}/runs/key/prompt.npy") == str(folder / "prompt.npy")
    assert local_copy(f"{store.url}/runs/key/prompts/boolq.npy") == str(
        folder / "prompts/boolq.npy"
    )


def test_a_file_comes_with_its_provenance_alone(store, tmp_path):
    path = Path(local_copy(f"{store.url}/other/prompt.safetensors"))
    assert path.read_bytes() == b"1"
    assert names(path.parent) == {"prompt.safetensors", "prompt.safetensors.json"}


def test_only_what_has_changed_is_downloaded_again(store, tmp_path, monkeypatch):
    downloaded, download = [], Store.download

    def note(self, chosen, folder):
        downloaded.append(list(chosen))
        download(self, downloaded[-1], folder)

    monkeypatch.setattr(Store, "download", note)
    folder = Path(local_copy(f"{store.url}/runs/key"))
    (folder / "figure.png").touch()
    store.remove("runs/key/prompt.npy")
    store.write("runs/key/result.json", b"changed")
    store.write("runs/key/checkpoints-2-20.zip", archive("newest"))
    (folder / "metrics.jsonl").unlink()
    assert local_copy(f"{store.url}/runs/key") == str(folder)
    assert sorted(downloaded[1]) == ["checkpoints-2-20.zip", "metrics.jsonl", "result.json"]
    assert (folder / "checkpoints/10/state").read_text() == "newest"
    assert not (folder / "prompt.npy").exists() and (folder / "figure.png").exists()
    local_copy(f"{store.url}/runs/key")
    assert downloaded[2] == []


def test_tables_that_are_being_written_are_copied_again(storages, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(copies, "_WAIT_SECONDS", 0.0)
    store = Store(storages("memory") + "/study")
    digest = hashlib.sha256(b"old").hexdigest()
    store.write("results.sha256", f"{digest}  results.csv\n".encode())
    store.write("results.csv", b"new")  # its digest comes a moment later
    update = copies._update

    def late(*arguments):
        update(*arguments)
        digest = hashlib.sha256(b"new").hexdigest()
        store.write("results.sha256", f"{digest}  results.csv\n".encode())

    monkeypatch.setattr(copies, "_update", late)
    folder = Path(local_copy(store.url))
    digest, _, name = (folder / "results.sha256").read_text().partition("  ")
    assert digest == hashlib.sha256((folder / name.strip()).read_bytes()).hexdigest()


def test_a_file_that_goes_while_it_is_copied(store, monkeypatch):
    monkeypatch.setattr(copies, "_WAIT_SECONDS", 0.0)
    download = Store.download

    def replaced(self, chosen, folder):  # as checkpoints are by newer ones
        store.write("runs/key/checkpoints-2-20.zip", archive("newest"))
        store.remove("runs/key/checkpoints-2-10.zip")
        download(self, chosen, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "download", replaced)
        folder = Path(local_copy(f"{store.url}/runs/key"))
    assert (folder / "checkpoints/10/state").read_text() == "newest"

    def gone(self, chosen, folder):
        download(self, ["runs/none"], folder)

    monkeypatch.setattr(Store, "download", gone)
    with pytest.raises(StoreError, match="cannot read from"):
        local_copy(f"{store.url}/runs/key")


def test_downloads_of_a_killed_process_are_removed(store):
    folder = Path(local_copy(store.url))
    (folder / ".transfer.0").mkdir()
    local_copy(store.url)
    assert not (folder / ".transfer.0").exists()


def test_what_is_damaged_or_missing(store, tmp_path, caplog):
    store.write("runs/key/checkpoints-3-10.zip", b"PK")
    folder = Path(local_copy(f"{store.url}/runs/key"))
    assert "checkpoints" not in {path.name for path in folder.iterdir()}
    assert "checkpoints-3-10.zip is damaged" in caplog.text
    with pytest.raises(ValueError, match=f"there is nothing at {store.url}/none; check the name"):
        local_copy(f"{store.url}/none")
    with pytest.raises(ValueError, match="there is nothing at"):
        copies.local_copy(f"{store.url}/runs/key/none.npy")


def test_local_paths_and_the_hub_stay_as_they_are(tmp_path):
    assert local_copy(tmp_path) == str(tmp_path)
    assert local_copy("hf://google/t5") == "hf://google/t5"
