"""SentencePiece vocabularies with T5's sentinel tokens, without TensorFlow."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Sequence

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from spjax.files import read_bytes

# The vocabularies that come with the project, relative to the package.
_SHIPPED = {
    "pocket": Path("pocket") / "vocabulary.model",
    # T5's `cc_all.32000` (Apache-2.0, https://github.com/google-research/prompt-tuning).
    "t5": Path("data") / "t5.model",
}
_PACKAGE = Path(__file__).resolve().parent.parent

SENTINEL = "<extra_id_0>"


def without_sentinel(text: str) -> str:
    """An answer without the sentinel and the space that it may begin with."""
    return text.removeprefix(SENTINEL).lstrip()


class Vocabulary:
    """Text to token ids and back, the same ids as seqio gives for the same file.

    Ids are T5's: 0 padding, 1 end of sequence, 2 unknown, then the pieces; the extra ids stand at
    the end in falling order, so that `<extra_id_0>` is the very last one.

    Attributes:
      path: the SentencePiece model file.
      extra_ids: how many sentinels there are.
    """

    pad_id = 0
    eos_id = 1
    unk_id = 2

    def __init__(self, path: str | os.PathLike[str], extra_ids: int = 100) -> None:
        """Reads the model file.

        Args:
          path: a SentencePiece model file with pad, EOS and unknown at 0, 1 and 2.
          extra_ids: how many sentinels to append.

        Raises:
          ValueError: the file is missing, is no SentencePiece model, or has other special ids.
        """
        self.path = Path(path)
        self.extra_ids = extra_ids
        data = _read(self.path)
        self._fingerprint = hashlib.sha256(data + f":{extra_ids}".encode()).hexdigest()
        self._processor = _processor(data, extra_ids, self.path)

    @property
    def size(self) -> int:
        """Number of ids, sentinels included."""
        return self._processor.GetPieceSize()

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the model file and the number of sentinels."""
        return self._fingerprint

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without EOS; `<extra_id_n>` at the start of a word is one id."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` up to the first EOS; padding is skipped.

        Ids beyond the vocabulary, which a padded embedding table can give, read as unknown.
        """
        clean = []
        for token in map(int, ids):
            if token == self.eos_id:
                break
            clean.append(token if token < self.size else self.unk_id)
        return self._processor.DecodeIds([token for token in clean if token != self.pad_id])

    def piece(self, token: int) -> str:
        """How an id is spelled: "▁" for a space, `<extra_id_n>`, `</s>`, `<pad>`."""
        spelling = self._processor.IdToPiece(token)
        return spelling.removeprefix("▁") if self._is_sentinel(token) else spelling

    def _is_sentinel(self, token: int) -> bool:
        return token >= self.size - self.extra_ids

    def sentinel(self, number: int) -> int:
        """The id of `<extra_id_number>`."""
        return self.size - 1 - number


@functools.cache
def load(name_or_path: str) -> Vocabulary:
    """A shipped vocabulary by its name, or any other by the path of its model file.

    Raises:
      ValueError: neither a known name nor a readable SentencePiece model.
    """
    if name_or_path in _SHIPPED:
        return Vocabulary(_PACKAGE / _SHIPPED[name_or_path])
    return Vocabulary(name_or_path)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise ValueError(
            f"cannot read the vocabulary {str(path)!r}: {error.strerror}; give the path of a "
            f"SentencePiece model file or one of the names {', '.join(_SHIPPED)}"
        ) from error


def _processor(
    data: bytes, extra_ids: int, path: Path
) -> sentencepiece.SentencePieceProcessor:
    pieces = sentencepiece_model_pb2.ModelProto.SentencePiece
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(data)
        for number in reversed(range(extra_ids)):
            model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=pieces.USER_DEFINED)
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(model.SerializeToString())
    except Exception as error:  # protobuf's and SentencePiece's errors share no narrower base
        raise ValueError(
            f"{str(path)!r} is not a SentencePiece model ({error}); give the path of the file "
            "that SentencePiece's trainer wrote with the ending .model"
        ) from error
    special = (processor.pad_id(), processor.eos_id(), processor.unk_id())
    if special != (0, 1, 2):
        raise ValueError(
            f"the vocabulary {str(path)!r} has pad, EOS and unknown at {special}, but T5 needs "
            "them at (0, 1, 2); train it with pad_id=0, eos_id=1, unk_id=2, bos_id=-1"
        )
    return processor
