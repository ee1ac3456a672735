"""A tiny vocabulary and small splits written without TensorFlow."""

import io
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import sentencepiece

from spjax.data import cache_files
from spjax.data.cache import CachedSplit
from spjax.data.vocabulary import Vocabulary

_TEXT = (
    "the small bird sits in the old tree and sings a song",
    "question: is the bird in the tree passage: the bird is not in the house",
    "hypothesis: he gave her a book premise: she has the book now",
    "True False entailment contradiction neutral choice1 choice2 positive negative",
)


@pytest.fixture(scope="session")
def vocabulary_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def vocabulary(vocabulary_path: Path) -> Vocabulary:
    return Vocabulary(vocabulary_path)


MakeSplit = Callable[..., CachedSplit]


@pytest.fixture
def make_split(tmp_path: Path) -> MakeSplit:
    """Writes a split whose example i has the input ids given and the target [50 + i, EOS]."""

    def make(
        rows: list[list[int]], lengths: dict[str, int] | None = None, name: str = "task"
    ) -> CachedSplit:
        folder = tmp_path / name / "train"
        examples = (
            (np.array(row), np.array([50 + number, 1]), {"number": number})
            for number, row in enumerate(rows)
        )
        cache_files.write(folder, {"made": "by a test"}, examples)
        lengths = lengths or {"inputs": 64, "targets": 16}
        return CachedSplit(name, "train", folder, lengths, *cache_files.read(folder))

    return make
