"""Trains the pocket vocabulary: `python -m spjax.pocket.make_vocabulary [file.model]`."""

from __future__ import annotations

import io
import re
import string
import sys
from pathlib import Path

from spjax.pocket import corpus

PATH = Path(__file__).with_name("vocabulary.model")
SIZE = 1052  # with 100 sentinels 1,152 embedding rows, a multiple of 128
_SEED, _DOCUMENTS = 1, 20_000
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def _lines() -> list[str]:
    """Documents; each of their words thirty times, so that rare ones are one piece too; then
    capitalised words and syllables, of which words from outside the world can be made."""
    texts = [document.text for document in corpus.documents(_SEED, _DOCUMENTS)]
    words = sorted({word for text in texts for word in re.findall("[A-Za-z]+", text)})
    capitals = [word.capitalize() for word in words]
    syllables = [c + v for c in _CONSONANTS for v in _VOWELS]
    syllables += [v + c for c in _CONSONANTS for v in _VOWELS]
    joined = [first + second for first in syllables[::3] for second in syllables[::4]]
    return texts + words * 30 + (capitals + syllables) * 3 + joined


def train(path: Path = PATH) -> None:
    """Writes a SentencePiece unigram model of SIZE pieces (0 pad, 1 EOS, 2 unknown) to `path`.

    Depends on nothing but this package's text: equal versions give equal files.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_lines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=SIZE,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        byte_fallback=False,
        num_threads=1,
        shuffle_input_sentence=False,
        minloglevel=2,
        required_chars=string.ascii_letters + string.digits + ".,:;?!'\"()-_*@/",
    )
    path.write_bytes(model.getvalue())


if __name__ == "__main__":
    train(*map(Path, sys.argv[1:2]))
