"""Vocabularies as seqio's. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import seqio
import tensorflow as tf

from spjax.vocabularies.vocabulary import Vocabulary


def of(vocabulary: Vocabulary) -> seqio.Vocabulary:
    """Returns seqio's own object of a SentencePiece vocabulary, and a wrapper of any other."""
    if type(vocabulary) is Vocabulary:
        return seqio.SentencePieceVocabulary(str(vocabulary.path), extra_ids=vocabulary.extra_ids)
    return _Wrapped(vocabulary)


class _Wrapped(seqio.Vocabulary):  # type: ignore[misc, unused-ignore]  # has no types
    """Encodes in Python what TensorFlow has no operation for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    @property
    def bos_id(self) -> None:
        """Returns nothing: T5's texts have no beginning of their own."""
        return None

    @property
    def eos_id(self) -> int:
        """Returns the id of the end of a text."""
        return self._vocabulary.eos_id

    @property
    def unk_id(self) -> int:
        """Returns the id of a piece that is not known."""
        return self._vocabulary.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self._vocabulary.size

    def _encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def _decode(self, ids: Iterable[int]) -> str:
        return self._vocabulary.decode(list(ids))

    def _encode_tf(self, text: tf.Tensor) -> tf.Tensor:
        def encode(raw: tf.Tensor) -> np.ndarray:
            return np.asarray(self._vocabulary.encode(raw.numpy().decode()), np.int32)

        ids = tf.py_function(encode, [text], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(row: tf.Tensor) -> str:
            return self._vocabulary.decode(row.numpy().tolist())

        return tf.py_function(decode, [ids], tf.string)

    def __eq__(self, other: object) -> bool:
        theirs = other._vocabulary if isinstance(other, _Wrapped) else None
        return theirs is not None and theirs.fingerprint == self._vocabulary.fingerprint
