"""Corpora are built once, by any number of processes, never half, and read without TensorFlow."""

import fcntl
import gzip
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from spjax import subprocesses
from spjax.cli import main
from spjax.data.corpora import builders, corpora, corpus_files
from spjax.data.corpora.corpus_files import Corpus
from spjax.data.token_cache import cache
from spjax.vocabularies import vocabulary

DOCUMENTS = [np.arange(3, 3 + size) for size in (4, 1, 70)]
TEXTS = ["the bird is in the tree", "a second, of 2 words", " the old house "] * 20


class Workers:
    """Stands in for the processes: writes two shards, and stops before the second if told to."""

    def __init__(self):
        self.stops, self.wrote, self.documents = False, [], DOCUMENTS

    def __call__(self, request, count, lock, log):
        for index in range(2):
            if self.stops and index == 1:
                raise KeyboardInterrupt
            if not corpus_files.has_shard(Path(request["folder"]), index, 2):
                self.wrote.append(index)
                corpus_files.write_shard(Path(request["folder"]), index, 2, self.documents, 90)


@pytest.fixture
def workers(monkeypatch):
    made = Workers()
    monkeypatch.setattr(builders, "run_workers", made)
    return made


@pytest.fixture
def place(tmp_path, vocabulary_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    return {"vocabulary": str(vocabulary_path), "cache_dir": tmp_path / "cache"}


def build(tmp_path, place, log=lambda text: None, **options):
    return corpora.build(f"notes={tmp_path}/*.txt", log=log, **place, **options)


def test_what_is_written_is_read(tmp_path, workers, place):
    build(tmp_path, place)
    corpus = corpora.load("notes", **place)
    assert len(corpus) == 6 and corpus.manifest["tokens"] == 150
    for number in range(6):
        assert corpus[number].dtype == np.int32
        assert (corpus[number] == DOCUMENTS[number % 3]).all()
    tokens = corpus._tokens[0]._array  # not in memory
    assert isinstance(tokens, np.memmap) and tokens.dtype == np.uint16
    with pytest.raises(IndexError):
        corpus[6]
    assert corpora.load(str(corpus.folder), place["vocabulary"])[5].tolist() == corpus[5].tolist()


def test_large_vocabularies_get_wider_numbers(tmp_path):
    corpus_files.write_shard(tmp_path, 0, 1, [np.array([70_000, 3])], 250_100)
    corpus_files.finish(tmp_path, {"vocabulary_size": 250_100, "format": corpus_files.FORMAT})
    assert Corpus(tmp_path)[0].tolist() == [70_000, 3]


def test_an_interrupted_build_continues_and_is_never_taken_for_whole(tmp_path, workers, place):
    workers.stops = True
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, place)
    with pytest.raises(ValueError, match="'notes' cannot be read in .*: there is none; build it"):
        corpora.load("notes", **place)
    (half,) = (place["cache_dir"] / "corpora").glob(".*-notes-train-*/")
    (half / "tokens-00001-of-00002.npy.tmp").write_bytes(b"half")
    cache._remove_unfinished(place["cache_dir"])  # as a build of token caches does
    workers.stops = False
    build(tmp_path, place)
    assert workers.wrote == [0, 1] and len(corpora.load("notes", **place)) == 6
    assert not list(place["cache_dir"].glob("**/*.tmp"))
    said = []
    build(tmp_path, place, said.append)
    assert workers.wrote == [0, 1] and said[0].startswith("Nothing to do: ")


def test_another_text_begins_anew(tmp_path, workers, place):
    workers.stops = True
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, place)
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    workers.stops = False
    build(tmp_path, place)
    (tmp_path / "b.txt").write_text("four\n")
    build(tmp_path, place)
    assert workers.wrote == [0, 0, 1, 0, 1]


def test_a_damaged_corpus_is_refused(tmp_path, workers, place):
    tokens = build(tmp_path, place) / "tokens-00001-of-00002.npy"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(ValueError, match="tokens-00001-of-00002.npy has .* bytes instead of"):
        corpora.load("notes", **place)
    build(tmp_path, place)
    assert len(corpora.load("notes", **place)) == 6


NOTES = (b"", b"{", b"null", b"[]", b'{"key": 1}', b"\xff\xfe\x00")  # what is left of a JSON file


@pytest.mark.parametrize("content", NOTES)
def test_a_manifest_that_is_cut_short_is_built_again(tmp_path, workers, place, content):
    folder = build(tmp_path, place)
    whole = (folder / "corpus.json").read_bytes()
    for kept in (content, whole[: len(whole) // 2]):
        (folder / "corpus.json").write_bytes(kept)
        with pytest.raises(ValueError, match="'notes' cannot be read in .* build it with"):
            corpora.load("notes", **place)
        build(tmp_path, place)
        assert (folder / "corpus.json").read_bytes() == whole
    assert workers.wrote == [0, 1] * 3


CUT = ("key.json", "shard-00000-of-00002.json", "tokens-00000-of-00002.npy")


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("content", NOTES)
def test_an_unfinished_corpus_with_a_file_cut_short(tmp_path, workers, place, name, content):
    workers.stops = True
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, place)
    (half,) = (place["cache_dir"] / "corpora").glob(".*-notes-train-*/")
    (half / name).write_bytes(content)
    workers.stops = False
    build(tmp_path, place)
    assert workers.wrote == [0, 0, 1] and len(corpora.load("notes", **place)) == 6


def test_a_seal_of_beam_that_is_cut_short_is_none(tmp_path):
    for content in (b"", b"{", b"\xff"):
        (tmp_path / "beam.json").write_bytes(content)
        assert builders._sealed(tmp_path / "beam.json") is None
    assert builders._sealed(tmp_path / "none") is None


def test_one_builder_at_a_time(tmp_path, workers, place):
    folder = corpora.folder_of("notes", **place)
    folder.parent.mkdir(parents=True)
    lock = os.open(folder.parent / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is building .*notes-train"):
        build(tmp_path, place)
    os.close(lock)


def test_a_full_disk(tmp_path, monkeypatch, place):
    def full(request, count, lock, log):
        raise OSError("No space left on device")

    monkeypatch.setattr(builders, "run_workers", full)
    with pytest.raises(ValueError, match="No space left on device; what is built is kept"):
        build(tmp_path, place)


def test_other_vocabulary_and_empty_corpus(tmp_path, workers, place):
    folder = build(tmp_path, place)
    with pytest.raises(ValueError, match="has another vocabulary than .*--corpus=NAME=SOURCE"):
        corpora.load(str(folder), "pocket")
    assert build(tmp_path, {**place, "vocabulary": "pocket"}) != folder
    assert corpora.load("notes", **place).folder == folder  # one for each vocabulary
    workers.documents = []
    (tmp_path / "b.txt").touch()
    build(tmp_path, place)
    with pytest.raises(ValueError, match="has 0 documents; 2 are the least"):
        corpora.load("notes", **place)


@pytest.mark.parametrize(
    "text, message",
    [
        ("c5", "unknown corpus 'c5'; the known ones are c4, c4_noclean"),
        ("a-b=x.txt", "'a-b=x.txt' is not of the form NAME=SOURCE"),
        ("notes=/nowhere/*.txt", "no file fits '/nowhere/.*', the source of the corpus notes"),
        ("notes=/nowhere/x.pdf", "the source '/nowhere/x.pdf' of the corpus notes is none of"),
    ],
)
def test_bad_sources(text, message):
    with pytest.raises(ValueError, match=message):
        corpora.parse(text)


def test_sources():
    assert corpora.parse("c4") == ("c4", "tfds:c4/en:2.2.0")
    assert corpora.parse("w=wikipedia/20230601.en:1.0.0")[1] == "tfds:wikipedia/20230601.en:1.0.0"
    assert corpora.parse("own=seqio:my.tasks:my_task")[1] == "seqio:my.tasks:my_task"


def test_without_beam_the_command_says_what_is_needed(tmp_path, place):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"No module named 'apache_beam'\" >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ValueError, match="has no Apache Beam. .*--beam_python=beam/bin/python"):
        build(tmp_path, place, beam=corpora.Beam(str(python)))


PIPELINE = """#!{python}
import json, pathlib, sys
request = json.load(sys.stdin)
folder = pathlib.Path(request["seqio_cache_dir"], request["spec"]["task"])
folder.mkdir(parents=True)
(folder / ("info.%s.json" % request["spec"]["split"])).touch()
with open("{calls}", "a") as file:
    file.write("called ")
print(json.dumps({{"result": str(folder)}}))
"""


@pytest.fixture
def pipeline(tmp_path):
    """In the place of a Python with Apache Beam; and how often it was called."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(PIPELINE.format(python=sys.executable, calls=calls))
    python.chmod(0o755)
    return str(python), lambda: len(calls.read_text().split())


def test_beam_runs_once_unless_its_cache_is_gone(tmp_path, workers, place, pipeline):
    python, calls = pipeline
    workers.stops, beam = True, corpora.Beam(python)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, place, beam=beam)
    assert calls() == 1
    (cached,) = (place["cache_dir"] / "corpora").glob(".*/seqio/*/info.train.json")
    cached.unlink()
    workers.stops = False
    folder = build(tmp_path, place, beam=beam)
    assert calls() == 2 and workers.wrote == [0, 0, 1]  # of one order
    assert not (folder / "seqio").exists()


def test_shards_of_beam_go_with_no_others(tmp_path, workers, place, pipeline):
    workers.stops = True
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, place, beam=corpora.Beam(pipeline[0]))
    workers.stops = False
    build(tmp_path, place)
    assert workers.wrote == [0, 0, 1]


def test_the_cache_of_beam_that_stays_holds_every_corpus(tmp_path, workers, place, pipeline):
    beam = corpora.Beam(pipeline[0], cache_dir=str(tmp_path / "stays"))
    for split in ("train", "test"):
        build(tmp_path, place, beam=beam, split=split)
    build(tmp_path, {**place, "vocabulary": "pocket"}, beam=beam)
    found = sorted(path.name for path in (tmp_path / "stays").glob("*/info.*.json"))
    assert found == ["info.test.json", "info.train.json", "info.train.json"]


def write_c4(folder, texts):
    """A prepared folder, as TFDS would write it."""
    import tensorflow_datasets as tfds

    names = ("content-length", "content-type", "text", "timestamp", "url")
    rows = [{name: text if name == "text" else "x" for name in names} for text in texts]
    with tfds.core.registered.skip_registration():

        class C4(tfds.core.GeneratorBasedBuilder):  # TFDS's own would crawl the web
            VERSION = tfds.core.Version("2.2.0")
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="en")]

            def _info(self):
                features = tfds.features.FeaturesDict({n: tfds.features.Text() for n in names})
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(rows)

    tfds.disable_progress_bar()
    C4(data_dir=folder, config="en").download_and_prepare()


def command(*args):
    return main.main(["cache", *map(str, args), "--vocabulary=pocket"])


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A corpus of text and compressed JSON lines, made by two processes with seqio."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "a.txt").write_text("\n".join([*TEXTS, "", "  "]), encoding="utf-8")
    rows = [json.dumps({"text": text + " é", "url": "x"}) for text in TEXTS]
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write("\n".join(rows))
    flags = (f"--cache_dir={folder / 'cache'}", "--num_workers=2")
    assert command(f"--corpus=notes={folder}/*.*", *flags) == 0
    return folder / "cache"


@pytest.mark.slow
def test_files_are_tokenized_by_seqio(notes):
    corpus, words = (
        corpora.load("notes", "pocket", cache_dir=notes),
        vocabulary.load_vocabulary("pocket"),
    )
    found = [corpus[number].tolist() for number in range(len(corpus))]
    wanted = [text.strip() for text in TEXTS] + [text + " é" for text in TEXTS]
    assert found == [words.encode(text) for text in wanted]


def told(capsys, monkeypatch, tmp_path, source, **changes):
    """Returns the answer of the building process, without another start of TensorFlow."""
    words = str(vocabulary.load_vocabulary("pocket").path)
    task = source.rpartition(":")[2] if isinstance(source, str) else "x"
    spec = {"task": task, "source": source, "field": "text", "split": "train", "vocabulary": words}
    request = {"spec": spec | changes, "folder": str(tmp_path), "worker": 0, "workers": 1}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    assert subprocesses.main(["spjax.data.corpora.build_corpus:build"]) == 1
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_cannot_be_used_is_named(tmp_path, capsys, monkeypatch):
    bad = tmp_path / "c.jsonl"
    bad.write_text('{"text": "good"}\n{"txt": "bad"}\n')
    answer = told(capsys, monkeypatch, tmp_path, [str(bad)])
    assert answer == {"invalid": f"{bad}:2: the field 'text' is None; it must be a text"}
    assert not list(tmp_path.glob("shard-*"))
    bad.write_text('[{"text": "in an array"}]')
    answer = told(capsys, monkeypatch, tmp_path, [str(bad)])
    assert answer == {"invalid": f"{bad}:1: each line must be one JSON object, not a list"}
    cut = tmp_path / "e.txt.gz"
    cut.write_bytes(gzip.compress(b"one\ntwo\n" * 99)[:-9])
    answer = told(capsys, monkeypatch, tmp_path, [str(cut)])
    assert answer["invalid"].startswith(f"{cut} is damaged or cut off (")
    answer = told(capsys, monkeypatch, tmp_path, "tfds:c4/en:2.2.0", split="tests")
    assert "cannot open the split 'tests' of 'tfds:c4/en:2.2.0'" in answer["invalid"]
    text = tmp_path / "d.txt"
    text.write_text("one")
    answer = told(capsys, monkeypatch, tmp_path / "nowhere", [str(text)])
    assert "No such file or directory" in answer["error"]


def test_shards_of_another_number_are_left_behind(tmp_path):
    from spjax.data.corpora import build_corpus

    (tmp_path / "a.txt").write_text("one\ntwo\n")
    corpus_files.write_shard(tmp_path, 1, 3, DOCUMENTS, 90)
    words = str(vocabulary.load_vocabulary("pocket").path)
    spec = {"task": "x", "source": [str(tmp_path / "a.txt")], "field": "text", "split": "train"}
    spec["vocabulary"] = words
    build_corpus.build({"spec": spec, "folder": str(tmp_path), "worker": 0, "workers": 1})
    assert corpus_files.finish(tmp_path, {})["documents"] == 2
    assert not list(tmp_path.glob("*-of-00003*"))


@pytest.mark.slow
def test_a_model_is_adapted_to_a_corpus(notes, tmp_path, capsys, monkeypatch, checkpoint):
    """The paper's gin file with other numbers, and its weights as the start of another run."""
    monkeypatch.chdir(Path(__file__).parents[3])
    monkeypatch.setenv("SPJAX_CACHE", str(notes))

    def adapt(start, *more):
        folder = tmp_path / f"from_{Path(start).stem}"
        values = {
            "MODEL_SIZE": "pocket_50k",
            "INITIAL_CHECKPOINT_PATH": start,
            "MIXTURE_OR_TASK_NAME": "notes",
            "TASK_FEATURE_LENGTHS": {"inputs": 32, "targets": 32},
            "TRAIN_STEPS": 2,
            "KEPT_STEPS": (1,),
            "BATCH_SIZE": 4,
            "MODEL_DIR": folder,
        }
        flags = [f"--gin.{name}={value}" for name, value in values.items()]
        file = "--gin_file=experiments/lester2021/lm_adaptation.gin"
        return main.main(["pretrain", file, *flags, *more]), folder

    code, _ = adapt(checkpoint)
    assert code == 2 and "nothing says the vocabulary" in capsys.readouterr().err
    code, folder = adapt(checkpoint, "--gin.Pretrain.vocabulary=pocket")
    assert code == 0
    card = json.loads((folder / "pocket_50k.json").read_text())
    assert card["corpus"] == "notes" and card["prefix_lm_loss"] > 0
    assert (folder / "spiece.model").is_file()  # so that the next run knows the vocabulary
    assert adapt(str(folder / "pocket_50k-1.safetensors"))[0] == 0


@pytest.mark.slow
def test_c4_is_read_by_its_name(tmp_path, capsys, monkeypatch):
    texts = [text.strip() for text in TEXTS[:3]] + ["", "the end"]
    write_c4(tmp_path, texts)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    flags = (f"--cache_dir={tmp_path / 'cache'}", "--num_workers=1")
    assert command("--corpus=c4", *flags) == 0, capsys.readouterr().err
    corpus = corpora.load("c4", "pocket", cache_dir=tmp_path / "cache")
    words = vocabulary.load_vocabulary("pocket")
    found = sorted(corpus[number].tolist() for number in range(len(corpus)))
    assert found == sorted(words.encode(text) for text in texts if text)


SEQIO_TASK = """
import functools
import seqio
import tensorflow as tf
from spjax.vocabularies import vocabulary

def texts(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({"body": ["the bird", "", "an old house"]})

def never(dataset):
    raise AssertionError("what comes after the cache is not the corpus's")

path = str(vocabulary.load_vocabulary("pocket").path)
pieces = seqio.SentencePieceVocabulary(path, extra_ids=EXTRA)
seqio.TaskRegistry.add(
    "own_text",
    source=seqio.FunctionDataSource(texts, splits=["train"]),
    preprocessors=[
        functools.partial(seqio.preprocessors.rekey, key_map={"targets": "body"}),
        seqio.preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), never,
    ],
    output_features={"targets": seqio.Feature(pieces)},
)
"""


def test_any_seqio_task_is_a_corpus(tmp_path, capsys, monkeypatch):
    from spjax.data.corpora import build_corpus

    def here(request, count, lock, log):  # a start of TensorFlow less
        build_corpus.build({**request, "worker": 0, "workers": count})

    monkeypatch.setattr(builders, "run_workers", here)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # where a process would find the task
    flags = (f"--cache_dir={tmp_path / 'cache'}", "--num_workers=1")
    (tmp_path / "text_tasks.py").write_text(SEQIO_TASK.replace("EXTRA", "100"))
    assert command("--corpus=own=seqio:text_tasks:own_text", *flags) == 0, capsys.readouterr().err
    corpus = corpora.load("own", "pocket", cache_dir=tmp_path / "cache")
    found, words = (
        [corpus[n].tolist() for n in range(len(corpus))],
        vocabulary.load_vocabulary("pocket"),
    )
    assert found == [words.encode("the bird"), words.encode("an old house")]
    bad = SEQIO_TASK.replace("EXTRA", "50").replace("own_text", "bad_text")
    (tmp_path / "bad_tasks.py").write_text(bad)
    answer = told(capsys, monkeypatch, tmp_path, "seqio:bad_tasks:bad_text")
    assert "'bad_text' has another vocabulary (1102 ids)" in answer["invalid"]


@pytest.mark.skipif("SPJAX_BEAM_PYTHON" not in os.environ, reason="a Python with Apache Beam")
def test_beam_gives_the_same_documents(notes, tmp_path):
    flags = ("--beam", f"--beam_python={os.environ['SPJAX_BEAM_PYTHON']}", "--num_workers=2")
    assert command(f"--corpus=notes={notes.parent}/*.*", f"--cache_dir={tmp_path}", *flags) == 0
    pair = [corpora.load("notes", "pocket", cache_dir=path) for path in (notes, tmp_path)]
    found = [sorted(corpus[i].tolist() for i in range(len(corpus))) for corpus in pair]
    assert found[0] == found[1] and len(pair[1].manifest["shards"]) == 64


def test_bad_flags(capsys):
    assert main.main(["cache", "--corpus=c4"]) == 2
    assert "a corpus needs the vocabulary of the model" in capsys.readouterr().err
    assert main.main(["cache", "--task=pocket_cb", "--num_workers=0"]) == 2
    assert "--num_workers is 0; it must be 1 or more" in capsys.readouterr().err


def test_tasks_are_built_side_by_side(tmp_path, monkeypatch, capsys):
    from spjax.data.token_cache import cache_files

    sizes = []

    def builders(parts, cache_dir, lock):
        for part in parts:
            sizes.append(len(part))
            for wanted in part:
                cache_files.write(wanted.folder, wanted.key, [])

    monkeypatch.setattr(cache, "_run_builders", builders)
    flags = ("--task=pocket_cb,pocket_rte", f"--cache_dir={tmp_path}", "--num_workers=4")
    assert main.main(["cache", *flags]) == 0
    assert sorted(sizes) == [1, 1, 2, 2]
    assert main.main(["cache", *flags]) == 0 and len(sizes) == 4


@pytest.mark.parametrize(
    "name, split", [("a/../b", "train"), ("a", "../../x"), ("a", "/x"), ("..", "train"), ("a", "")]
)
def test_names_of_corpora_are_no_paths(name, split, tmp_path):
    with pytest.raises(ValueError, match="cannot be the (name|split) of a corpus"):
        corpora.folder_of(name, "pocket", split, tmp_path)
    assert corpora.folder_of("a", "pocket", "train[:10%]", tmp_path).parent.name == "corpora"
