"""Token ids are T5's, with and without sentinels, and nothing but a fit model file is taken."""

import io
from pathlib import Path

import pytest
import sentencepiece

from spjax.vocabularies.vocabulary import Vocabulary, load_vocabulary


def test_round_trip_without_eos(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("the bird sings")
    assert vocabulary.encode(["the bird sings"]) == [ids]
    assert ids and vocabulary.eos_id not in ids
    assert vocabulary.decode(ids) == "the bird sings"


def test_decode_stops_at_eos_and_skips_padding(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("the bird")
    assert vocabulary.decode([0, *ids, 0, 1, *ids]) == "the bird"
    assert vocabulary.decode([]) == "" and vocabulary.decode([1, 5]) == ""


def test_sentinels_count_down_from_the_last_id(vocabulary: Vocabulary) -> None:
    last = vocabulary.size - 1
    assert vocabulary.sentinel(0) == last and vocabulary.sentinel(99) == last - 99
    assert vocabulary.encode("<extra_id_0>") == [last]
    ids = vocabulary.encode("the <extra_id_3> tree <extra_id_99>")
    assert last - 3 in ids and ids[-1] == last - 99
    assert vocabulary.decode(ids) == "the <extra_id_3> tree <extra_id_99>"


def test_ids_beyond_the_vocabulary_read_as_unknown(vocabulary: Vocabulary) -> None:
    assert vocabulary.decode([vocabulary.size + 5]) == vocabulary.decode([vocabulary.unk_id])


def test_fingerprint_depends_on_file_and_extra_ids(
    vocabulary: Vocabulary, vocabulary_path: Path
) -> None:
    assert vocabulary.fingerprint == Vocabulary(vocabulary_path).fingerprint
    fewer = Vocabulary(vocabulary_path, extra_ids=10)
    assert fewer.size == vocabulary.size - 90
    assert fewer.fingerprint != vocabulary.fingerprint


def test_load_takes_a_path(vocabulary: Vocabulary, vocabulary_path: Path) -> None:
    assert load_vocabulary(str(vocabulary_path)).fingerprint == vocabulary.fingerprint


def test_the_shipped_vocabulary_has_the_ids_of_the_ladder() -> None:
    pocket = load_vocabulary("pocket")
    assert pocket.size == 1152 and pocket.sentinel(0) == 1151


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the vocabulary.*or one of the names pocket"):
        load_vocabulary(str(tmp_path / "none.model"))


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.model"
    path.write_text("not a model at all")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        Vocabulary(path)


def test_other_special_ids_are_refused(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f"] * 20),
        model_writer=model,
        vocab_size=20,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "other.model"
    path.write_bytes(model.getvalue())
    with pytest.raises(ValueError, match=r"pad, EOS and unknown at .*train it with pad_id=0"):
        Vocabulary(path)
