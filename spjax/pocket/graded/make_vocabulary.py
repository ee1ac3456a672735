"""Writes the graded world's vocabulary: `python -m spjax.pocket.graded.make_vocabulary [file]`.

Nothing is trained. The words of the world are pieces, an invented word is two syllables, and small
letters are pieces too, so that other words can be spelled.
"""

from __future__ import annotations

import re
import string
import sys
from pathlib import Path

from spjax.pocket.graded import lexicon

PATH = Path(__file__).with_name("vocabulary.model")
SIZE = 512
_DOCUMENTS = 20_000
_SPACE = "▁"
_PUNCTUATION = ".,:?"


def _words() -> list[str]:
    """The words of texts and tasks that are not of the lexicon, in the order of the alphabet."""
    from spjax.pocket.graded import records, texts

    invented = set(lexicon.WORDS)
    written = set(re.findall(rf"[^\s{_PUNCTUATION}]+", " ".join(texts.samples(_DOCUMENTS))))
    return sorted((written | set(records.HEADINGS)) - invented)


def pieces() -> list[tuple[str, float, str]]:
    """Returns spelling, score and kind of each piece, in the order of the ids.

    Raises:
      ValueError: there are more than `SIZE`.
    """
    special = [("<pad>", 0.0, "CONTROL"), ("</s>", 0.0, "CONTROL"), ("<unk>", 0.0, "UNKNOWN")]
    onsets = [_SPACE + onset for onset in lexicon.ONSETS]
    whole = [_SPACE + word for word in _words()]
    letters = [_SPACE, *string.ascii_lowercase]
    known = dict.fromkeys([*whole, *onsets, *lexicon.CODAS, *_PUNCTUATION])
    spelled = [(piece, -1.0, "NORMAL") for piece in known]
    # Far worse than any other piece: a word is spelled only where there is no other way.
    spelled += [(letter, -20.0, "NORMAL") for letter in letters if letter not in known]
    count = SIZE - len(special) - len(spelled)
    if count < 1:
        raise ValueError(f"the graded world has {len(spelled)} pieces, more than {SIZE} ids hold.")
    numbers = reversed(range(count))
    return special + spelled + [(f"<extra_id_{n}>", 0.0, "USER_DEFINED") for n in numbers]


def write(path: Path = PATH) -> None:
    """Writes a SentencePiece unigram model of `SIZE` pieces, 0 pad, 1 EOS, 2 unknown."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece.Type
    for spelling, score, kind in pieces():
        model.pieces.add(piece=spelling, score=score, type=kinds.Value(kind))
    trainer = model.trainer_spec
    trainer.model_type = trainer.UNIGRAM
    trainer.vocab_size = SIZE
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    trainer.pad_piece = "<pad>"
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
