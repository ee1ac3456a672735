"""Datasets of Hugging Face as corpora: streamed, resumed, and like those of files."""

import json

import numpy as np
import pytest

from spjax.data.corpora import builders, corpora, corpus_files, stream_corpus
from spjax.vocabularies.vocabulary import load_vocabulary

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")

TEXTS = [f"the bird {number} is in the tree" for number in range(50)]


@pytest.fixture
def here(monkeypatch):
    """Runs the workers in this process."""

    def run(request, count, lock, log):
        for worker in range(count):
            stream_corpus.build({**request, "worker": worker, "workers": count})

    monkeypatch.setattr(builders, "run_workers", run)


@pytest.fixture(params=["saved", "jsonl", "parquet"])
def folder(request, tmp_path):
    path = tmp_path / "birds"
    rows = datasets.Dataset.from_dict({"text": TEXTS, "number": list(range(50))})
    if request.param == "saved":
        datasets.DatasetDict({"train": rows}).save_to_disk(str(path))
    else:
        (path / "data").mkdir(parents=True)
        for number in range(4):
            part = rows.shard(4, number, contiguous=True)
            name = str(path / "data" / f"train-{number:05d}-of-00004.{request.param}")
            part.to_parquet(name) if request.param == "parquet" else part.to_json(name)
    return path


def build(folder, tmp_path, **options):
    return corpora.build(
        f"birds={folder}", "pocket", cache_dir=tmp_path / "cache", log=lambda text: None, **options
    )


def test_all_documents_are_there_once(folder, tmp_path, here):
    build(folder, tmp_path, num_workers=2)
    corpus = corpora.load("birds", "pocket", cache_dir=tmp_path / "cache")
    words = load_vocabulary("pocket")
    found = sorted(words.decode(corpus[number]) for number in range(len(corpus)))
    assert found == sorted(words.decode(words.encode(text)) for text in TEXTS)


def test_an_interrupted_stream_goes_on_with_the_next_shard(folder, tmp_path, here, monkeypatch):
    whole = build(folder, tmp_path / "whole")
    written, write = [], corpus_files.write_shard

    def write_some(folder, index, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(index)
        write(folder, index, *rest)

    monkeypatch.setattr(corpus_files, "write_shard", write_some)
    with pytest.raises(KeyboardInterrupt):
        build(folder, tmp_path)
    monkeypatch.setattr(corpus_files, "write_shard", write)
    again = []
    monkeypatch.setattr(
        corpus_files, "write_shard", lambda *args: again.append(args[1]) or write(*args)
    )
    built = build(folder, tmp_path)
    assert written == [0, 1] and again[0] == 2
    for path in whole.glob("*.npy"):
        assert (built / path.name).read_bytes() == path.read_bytes()


def test_a_changed_folder_is_built_again(tmp_path, here):
    folder = tmp_path / "birds"
    folder.mkdir()
    for count in (3, 4):
        lines = [json.dumps({"text": text}) + "\n" for text in TEXTS[:count]]
        (folder / "train.jsonl").write_text("".join(lines))
        build(folder, tmp_path)
        assert len(corpora.load("birds", "pocket", cache_dir=tmp_path / "cache")) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, "cannot open the split 'valid' of"),
        ({"field": "body"}, "have no field 'body', only text, number; choose one with"),
        ({"field": "number"}, "the field 'number' of .* has 0; it must be a text"),
        ({"beam": builders.Beam()}, "Apache Beam does not read .*; leave out --beam"),
    ],
)
def test_what_cannot_be_read_is_said(options, message, tmp_path, here):
    rows = datasets.Dataset.from_dict({"text": TEXTS, "number": list(range(50))})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "birds", tmp_path, **options)
    with pytest.raises(ValueError, match="has something after the dataset's name"):
        corpora.parse(f"birds={tmp_path / 'birds'}#train")


def test_processes_and_the_vocabulary_of_bytes(tmp_path):
    """The real workers; and a corpus that ByT5 can be adapted to."""
    rows = datasets.Dataset.from_dict({"text": TEXTS})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "birds"))
    corpora.build(
        f"birds={tmp_path / 'birds'}",
        "byt5",
        cache_dir=tmp_path / "cache",
        num_workers=2,
        log=lambda text: None,
    )
    corpus = corpora.load("birds", "byt5", cache_dir=tmp_path / "cache")
    texts = {bytes(np.asarray(corpus[i] - 3, np.uint8)).decode() for i in range(len(corpus))}
    assert texts == set(TEXTS)
