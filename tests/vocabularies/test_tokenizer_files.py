"""Sentinels and added tokens of a folder are read, and never guessed."""

import json
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2

from spjax.checkpoints import model_vocabulary
from spjax.vocabularies.vocabulary import Vocabulary


def with_sentinels(source: Path, path: Path, count: int, mark: str = "▁") -> Path:
    """A model file with sentinels among its pieces, as mT5's."""
    model = sentencepiece_model_pb2.ModelProto.FromString(source.read_bytes())
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    for number in reversed(range(count)):
        model.pieces.add(piece=f"{mark}<extra_id_{number}>", score=0.0, type=kind)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("count", [100, 300])
@pytest.mark.parametrize("mark", ["▁", ""])
def test_sentinels_of_the_file_are_used_and_none_is_added(
    vocabulary_path: Path, tmp_path: Path, count: int, mark: str
) -> None:
    bare = Vocabulary(vocabulary_path, extra_ids=0)
    words = Vocabulary(with_sentinels(vocabulary_path, tmp_path / "m.model", count, mark))
    assert words.extra_ids == 0 and words.says_sentinels and words.size == bare.size + count
    assert words.sentinel(0) == words.size - 1 and words.sentinel(count - 1) == bare.size
    target = words.encode_target("the bird", sentinel=True)
    assert target == [words.size - 1, *words.encode("the bird")]
    assert words.decode(target) == "<extra_id_0> the bird"
    assert words.piece(words.size - 1) == "<extra_id_0>"
    words.check_sentinels(count)
    with pytest.raises(ValueError, match=f"needs {count + 1} sentinels at the end of the voc"):
        words.check_sentinels(count + 1)


def test_another_number_of_sentinels_is_read(vocabulary_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(vocabulary_path.read_bytes())
    pieces = Vocabulary(path, extra_ids=0).size
    assert Vocabulary(path).size == pieces + 100 and not Vocabulary(path).says_sentinels
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"extra_ids": 0}')
    words = Vocabulary(path)
    assert words.size == pieces and words.says_sentinels and not words.sentinels
    with pytest.raises(ValueError, match="has no sentinel <extra_id_0> among its 0.*extra_ids"):
        words.sentinel(0)
    added = {str(pieces + i): {"content": f"<extra_id_{6 - i}>"} for i in range(7)}
    config.write_text(json.dumps({"added_tokens_decoder": added}))
    words = Vocabulary(path)
    assert words.size == pieces + 7 and words.sentinel(0) == pieces + 6
    model_vocabulary.check_tokenizer(words)
    (tmp_path / "copied").mkdir()
    words.copy(tmp_path / "copied", "spiece.model")
    assert Vocabulary(tmp_path / "copied" / "spiece.model").fingerprint == words.fingerprint
    config.write_text('{"extra_ids": -1}')
    with pytest.raises(ValueError, match="says extra_ids=-1; it must be a number of sentinels"):
        Vocabulary(path)
    config.write_text("[" * 99_999)
    with pytest.raises(ValueError, match="cannot read .*tokenizer_config.json"):
        Vocabulary(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, "is a 'BertTokenizer' and"),
        ("tokenizer_config.json", {"do_lower_case": True}, "makes all letters small"),
        ("added_tokens.json", {"<sep>": 190}, "has '<sep>' at 190, which .* does not exist, it"),
        ("added_tokens.json", {"<sep>": 70}, "has '<sep>' at 70, which in spiece.model is "),
        ("tokenizer.json", {"added_tokens": [{"id": 0, "content": "</s>"}]}, "is '<pad>'"),
        ("tokenizer.json", {"added_tokens": [{"id": 0}]}, "added tokens .* cannot be read"),
    ],
)
def test_a_tokenizer_that_gives_other_ids_is_refused(
    name: str, content: dict, message: str, vocabulary_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "spiece.model").write_bytes(vocabulary_path.read_bytes())
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        model_vocabulary.check_tokenizer(Vocabulary(tmp_path / "spiece.model"))
