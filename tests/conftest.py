"""All tests run on four simulated CPU devices with strict dtype promotion, and share caches."""

import gc
import io

from tests import cheap_compiling

cheap_compiling.set_for_this_process(devices=4)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests.analysis import browser  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")


# What is compiled and traced lives on, so that looking for garbage often takes a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 50, 1000)


# Files of a minute and more, begun first so that no process is left with one of them at the end.
_SLOW = {
    "test_tfds.py",
    "test_partitioning.py",
    "test_real.py",
    "test_methods.py",
    "test_predict.py",
}
_SLOW |= {"test_loop.py", "test_corpora.py", "test_pretrain.py", "test_seqio.py"}
_SLOW |= {"test_documents.py", "test_decoding.py"}


def pytest_addoption(parser):
    """Adds the flags that run all tests."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked as slow")
    parser.addoption("--clusters", action="store_true", help="also run those in tests/clusters")


def pytest_ignore_collect(collection_path, config):
    """Leaves out the tests on clusters, which need Ray, Slurm, and many minutes."""
    if collection_path.name == "clusters" and not config.getoption("--clusters"):
        return True
    return None


def pytest_terminal_summary(terminalreporter, config):
    """Says what was left out."""
    if not config.getoption("--clusters"):
        terminalreporter.line("LEFT OUT: Ray and Slurm; ./scripts/test_clusters.sh tests them.")
    if not browser.program():
        terminalreporter.line("LEFT OUT: the report in a browser; install Chromium to test it.")


def pytest_collection_modifyitems(config, items):
    """Puts slow files first, and skips single slow tests unless they are asked for."""
    items.sort(key=lambda item: item.path.name not in _SLOW)
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes four seconds or more; give --slow"))


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """One token cache for all tests and test processes, and one of larger compiled programs."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "token-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPJAX_CACHE", str(folder))
        compiled = {
            "jax_compilation_cache_dir": str(folder.parent / "compiled"),
            "jax_persistent_cache_min_compile_time_secs": 0.05,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        for name, value in compiled.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield folder


@pytest.fixture
def few_examples(monkeypatch):
    """Scores 30 examples at the most: fewer rows, of fewer shapes to compile for."""
    from spjax.data.tasks.info import FewShot
    from spjax.data.token_cache import cache

    known = cache.load

    def load(task, split, *args, **named):
        found = known(task, split, *args, **named)
        few = split == "train" or found.num_examples <= 30
        return found if few else found.few(FewShot(30, seed=0, balanced=True))

    monkeypatch.setattr(cache, "load", load)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Random weights of the smallest pocket size, stored exactly."""
    from spjax.checkpoints.weights import weights
    from spjax.models import get_size
    from spjax.models.t5 import init_weights

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    tree = init_weights(get_size("pocket_50k"), jax.random.key(0))
    weights.save(path, tree, {}, dtype="float32")
    return str(path)


@pytest.fixture
def run(checkpoint):
    """A run that trains in a second."""
    from spjax.methods.initializers import SampledVocabulary
    from spjax.methods.prompt_tuning import PromptTuning
    from spjax.training.optimizers import Adafactor
    from spjax.training.run import Run

    return Run(
        task="pocket_cb",
        model="pocket_50k",
        method=PromptTuning(length=3, initializer=SampledVocabulary(600)),
        optimizer=Adafactor(0.3),
        checkpoint=checkpoint,
        steps=6,
        eval_period=3,
        batch_size=8,
        eval_examples=16,
        eval_batch_size=16,
    )


_TEXT = (
    "the small bird sits in the old tree and sings a song",
    "question: is the bird in the tree passage: the bird is not in the house",
    "hypothesis: he gave her a book premise: she has the book now",
    "True False entailment contradiction neutral choice1 choice2 positive negative",
)


@pytest.fixture(scope="session")
def vocabulary_path(tmp_path_factory):
    """A tiny vocabulary."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT * 20),
        model_writer=model,
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("vocabulary") / "tiny.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="session")
def vocabulary(vocabulary_path):
    from spjax.vocabularies.vocabulary import Vocabulary

    return Vocabulary(vocabulary_path)


@pytest.fixture
def make_split(tmp_path):
    """Writes a split whose example i has the input ids given and the target [50 + i, EOS]."""

    from spjax.data.token_cache import cache_files
    from spjax.data.token_cache.cache import CachedSplit

    def make(rows, lengths=None, name="task"):
        folder = tmp_path / name / "train"
        examples = (
            (np.array(row), np.array([50 + number, 1]), {"number": number})
            for number, row in enumerate(rows)
        )
        cache_files.write(folder, {"made": "by a test"}, examples)
        lengths = lengths or {"inputs": 64, "targets": 16}
        return CachedSplit(name, "train", folder, lengths, *cache_files.read(folder))

    return make
