"""Vocabularies with T5's sentinel tokens, without TensorFlow.

They are SentencePiece's, ByT5's bytes, and the `tokenizer.json` of a model without a SentencePiece
file.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from spjax import extras
from spjax.files import read_bytes
from spjax.vocabularies import tokenizer_files

# The vocabularies that come with the project, relative to the package.
SHIPPED = {
    "pocket": Path("pocket") / "vocabulary.model",
    "graded": Path("pocket") / "graded" / "vocabulary.model",
    # T5's `cc_all.32000` (Apache-2.0, https://github.com/google-research/prompt-tuning).
    "t5": Path("vocabularies") / "t5.model",
}
_PACKAGE = Path(__file__).resolve().parent.parent

BYT5 = "byt5"
NAMES = (*SHIPPED, BYT5)
SENTINEL = "<extra_id_0>"
SENTINELS = 100  # that T5 appends to the pieces, where neither the file nor a tokenizer says else
_SENTINEL = re.compile(r"▁?<extra_id_(\d+)>")
_SENTINEL_TEXT = re.compile(r"<extra_id_(\d+)>")
_SPECIAL = {"<pad>": 0, "</s>": 1, "<unk>": 2}


def without_sentinel(text: str) -> str:
    """Removes the sentinel, and its space, that an answer may begin with."""
    return text.removeprefix(SENTINEL).lstrip()


class Vocabulary:
    """Converts text to token ids and back; the ids are seqio's for the same file.

    Ids are T5's: 0 padding, 1 end of sequence, 2 unknown, then the pieces. Sentinels that are
    pieces of the file (mT5's) are those of the vocabulary; otherwise they are appended in falling
    order, so that `<extra_id_0>` is the very last one.

    Attributes:
      path: the SentencePiece model file.
      extra_ids: number of sentinels appended to the pieces of the file.
      sentinels: the id of `<extra_id_n>` by n.
      says_sentinels: whether the file, or a tokenizer's configuration beside it, says how many
        sentinels there are; otherwise it is T5's number.
    """

    pad_id = 0
    eos_id = 1
    unk_id = 2

    def __init__(self, path: str | os.PathLike[str], extra_ids: int | None = None) -> None:
        """Reads the model file.

        Args:
          path: a SentencePiece model file with pad, EOS and unknown at 0, 1 and 2.
          extra_ids: number of sentinels to append; None for none if the file holds some, else as
            many as a `tokenizer_config.json` beside it says, else 100.

        Raises:
          ValueError: the file is missing, is no SentencePiece model, or has other special ids.
        """
        self.path = Path(path)
        data = _read(self.path)
        model = _parse(data, self.path)
        in_file = any(_SENTINEL.fullmatch(piece.piece) for piece in model.pieces)
        stated = 0 if in_file else tokenizer_files.extra_ids(self.path.parent)
        self.says_sentinels = extra_ids is not None or stated is not None
        if extra_ids is None:
            extra_ids = SENTINELS if stated is None else stated
        self.extra_ids = extra_ids
        self._fingerprint = hashlib.sha256(data + f":{extra_ids}".encode()).hexdigest()
        self._processor = _processor(model, extra_ids, self.path)
        self.sentinels = {
            int(match[1]): token
            for token, piece in enumerate(model.pieces)  # with those that were appended
            if (match := _SENTINEL.fullmatch(piece.piece))
        }

    @property
    def size(self) -> int:
        """Returns the number of ids, sentinels included."""
        return self._processor.GetPieceSize()

    @property
    def fingerprint(self) -> str:
        """Returns the SHA-256 in hex of the model file and the number of sentinels."""
        return self._fingerprint

    @overload
    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""

    @overload
    def encode(self, text: list[str]) -> list[list[int]]:
        """Returns the ids of each text."""

    def encode(self, text: str | list[str]) -> list[int] | list[list[int]]:
        """Returns the ids of a text, or of each of several.

        There is no EOS at the end. `<extra_id_n>` at the start of a word is one id.
        """
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids` up to the first EOS; padding is skipped.

        Ids beyond the vocabulary, which a padded embedding table can give, read as unknown.
        """
        clean = []
        for token in map(int, ids):
            if token == self.eos_id:
                break
            clean.append(token if token < self.size else self.unk_id)
        return self._text([token for token in clean if token != self.pad_id])

    def _text(self, ids: list[int]) -> str:
        return self._processor.DecodeIds(ids)

    def piece(self, token: int) -> str:
        """Returns the spelling of an id: "▁" for a space, `<extra_id_n>`, `</s>`, `<pad>`."""
        spelling = self._processor.IdToPiece(token)
        return spelling.removeprefix("▁") if self._is_sentinel(token) else spelling

    def _is_sentinel(self, token: int) -> bool:
        return token in self.sentinels.values()

    def sentinel(self, number: int) -> int:
        """Returns the id of `<extra_id_number>`.

        Raises:
          ValueError: the vocabulary has no such sentinel.
        """
        if number not in self.sentinels:
            raise ValueError(
                f"the vocabulary {self.path} has no sentinel <extra_id_{number}> among its "
                f"{len(self.sentinels)}, which tasks with :sentinel and span corruption need. "
                f"{tokenizer_files.STATE_SENTINELS}"
            )
        return self.sentinels[number]

    def check_sentinels(self, count: int) -> None:
        """Checks that the last ids are the first sentinels, in falling order, as in T5 and mT5.

        Args:
          count: how many of them, which span corruption takes by counting down.

        Raises:
          ValueError: there are fewer, or they have other ids.
        """
        in_order = [self.sentinels.get(n) == self.size - 1 - n for n in range(count)]
        if not all(in_order):
            raise ValueError(
                f"span corruption needs {count} sentinels at the end of the vocabulary, and "
                f"{self.path} has {in_order.index(False)} there. {tokenizer_files.STATE_SENTINELS}"
            )

    def encode_target(self, text: str, sentinel: bool = False) -> list[int]:
        """Returns ids of a target, no EOS, `<extra_id_0>` in front if the task wants it."""
        return ([self.sentinel(0)] if sentinel else []) + self.encode(text)

    def copy(self, folder: Path, name: str) -> None:
        """Writes the model file, and the number of appended sentinels, to a folder."""
        shutil.copyfile(self.path, folder / name)
        if self.extra_ids != SENTINELS and self.extra_ids == len(self.sentinels):
            tokenizer_files.write_extra_ids(folder, self.extra_ids)


class ByteVocabulary(Vocabulary):
    """ByT5's vocabulary: ids are UTF-8 bytes plus 3, as in seqio's `ByteVocabulary`.

    `<extra_id_n>` is 259 + n, up to 124, as in transformers' `ByT5Tokenizer`. ByT5's own
    pre-training marked its spans by 258, 257, ..., which no text has.
    """

    def __init__(self) -> None:
        self.path = Path(BYT5)
        self.extra_ids = 125
        self.says_sentinels = True
        self.sentinels = {number: 259 + number for number in range(self.extra_ids)}
        self._fingerprint = hashlib.sha256(BYT5.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Returns the number of ids, sentinels included."""
        return 259 + self.extra_ids

    def encode(self, text: Any) -> Any:
        """Returns the ids of a text, or of each of several; `<extra_id_n>` is one id."""
        if not isinstance(text, str):
            return [self.encode(one) for one in text]
        ids: list[int] = []
        for place, part in enumerate(_SENTINEL_TEXT.split(text)):
            if place % 2 and int(part) in self.sentinels:
                ids.append(self.sentinels[int(part)])
            else:
                written = f"<extra_id_{part}>" if place % 2 else part
                ids += [byte + 3 for byte in written.encode()]
        return ids

    def _text(self, ids: list[int]) -> str:
        spelled = b"".join(
            f"<extra_id_{token - 259}>".encode() if token >= 259 else bytes([token - 3])
            for token in ids
            if token > self.unk_id
        )
        return spelled.decode(errors="ignore")

    def piece(self, token: int) -> str:
        """Returns the character of an id's byte, "▁" for a space, or the name of a special id."""
        if token >= 259:
            return f"<extra_id_{token - 259}>"
        names = {number: name for name, number in _SPECIAL.items()}
        return names.get(token) or chr(token - 3).replace(" ", "▁")

    def copy(self, folder: Path, name: str) -> None:
        """Writes the name of the tokenizer to a folder; `name` is not needed."""
        tokenizer_files.write_byt5(folder)


class TokenizerVocabulary(Vocabulary):
    """A `tokenizer.json` of Hugging Face's `tokenizers`, such as T5's.

    Its special ids must be T5's. Sentinels are those that it names `<extra_id_n>`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Reads the file.

        Raises:
          ValueError: it cannot be read, has other special ids, or `tokenizers` is not installed.
        """
        self.path = Path(path)
        data = _read(self.path)
        library = extras.import_module("tokenizers", "hf", f"the vocabulary {str(path)!r}")
        try:
            self._tokenizer = library.Tokenizer.from_str(data.decode())
        except Exception as error:  # those of `tokenizers` share no narrower base
            raise ValueError(
                f"{str(path)!r} is no tokenizer.json that `tokenizers` {library.__version__} reads "
                f"({error}); download it again, or give the SentencePiece file of the model."
            ) from error
        special = {name: self._tokenizer.token_to_id(name) for name in _SPECIAL}
        if special != _SPECIAL:
            raise ValueError(
                f"the vocabulary {str(path)!r} has the special ids {special}, but T5 needs "
                f"{_SPECIAL}; it is of another kind of model."
            )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.extra_ids, self.says_sentinels = 0, True
        self.sentinels = {
            int(match[1]): token
            for spelling, token in self._tokenizer.get_vocab().items()
            if (match := _SENTINEL.fullmatch(spelling))
        }
        self._fingerprint = hashlib.sha256(data).hexdigest()

    @property
    def size(self) -> int:
        """Returns the number of ids, sentinels included."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def encode(self, text: Any) -> Any:
        """Returns the ids of a text, or of each of several, without EOS."""
        if isinstance(text, str):
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        encodings = self._tokenizer.encode_batch(list(text), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def piece(self, token: int) -> str:
        """Returns the spelling of an id."""
        return self._tokenizer.id_to_token(token) or "<unk>"

    def copy(self, folder: Path, name: str) -> None:
        """Copies the file to a folder as `tokenizer.json`; `name` is not needed."""
        shutil.copyfile(self.path, folder / tokenizer_files.WHOLE)


def fingerprint(path: str) -> str:
    """Returns `Vocabulary.fingerprint` of a file as it is now, "" where there is none."""
    return _open(path).fingerprint if Path(path).is_file() else ""


@functools.cache
def load_vocabulary(name_or_path: str) -> Vocabulary:
    """Loads a vocabulary by its name, or by the path of its file.

    Args:
      name_or_path: a name of `NAMES`; or a SentencePiece model file; or a `tokenizer.json`, for
        which the extra `hf` is needed.

    Raises:
      ValueError: neither a known name nor a readable file.
    """
    if name_or_path in SHIPPED:
        return Vocabulary(_PACKAGE / SHIPPED[name_or_path])
    return ByteVocabulary() if name_or_path == BYT5 else _open(name_or_path)


def _open(path: str) -> Vocabulary:
    return TokenizerVocabulary(path) if path.endswith(".json") else Vocabulary(path)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise ValueError(
            f"cannot read the vocabulary {str(path)!r}: {error.strerror}; give the path of a "
            f"SentencePiece model file or one of the names {', '.join(NAMES)}"
        ) from error


def _parse(data: bytes, path: Path) -> sentencepiece_model_pb2.ModelProto:
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(data)
        if model.pieces:
            return model
        reason = "it has no pieces"
    except Exception as error:  # protobuf's errors share no narrower base
        reason = str(error)
    raise _no_model(path, reason)


def _no_model(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} is not a SentencePiece model ({reason}); give the path of the file "
        "that SentencePiece's trainer wrote with the ending .model"
    )


def _processor(
    model: sentencepiece_model_pb2.ModelProto, extra_ids: int, path: Path
) -> sentencepiece.SentencePieceProcessor:
    """Loads the model with appended sentinels, which are added to `model` as well."""
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    for number in reversed(range(extra_ids)):
        model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=kind)
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model.SerializeToString())
    except Exception as error:  # SentencePiece's errors share no narrower base
        raise _no_model(path, str(error)) from error
    special = (processor.pad_id(), processor.eos_id(), processor.unk_id())
    if special != (0, 1, 2):
        raise ValueError(
            f"the vocabulary {str(path)!r} has pad, EOS and unknown at {special}, but T5 needs "
            "them at (0, 1, 2); train it with pad_id=0, eos_id=1, unk_id=2, bos_id=-1"
        )
    return processor
