"""ByT5's bytes, and tokenizer.json in place of a SentencePiece file."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest
from sentencepiece import sentencepiece_model_pb2

from spjax.api.models import find_vocabulary
from spjax.checkpoints import model_vocabulary
from spjax.checkpoints.weights import convert, weights
from spjax.models import get_size
from spjax.models.t5 import init_weights
from spjax.vocabularies import vocabulary
from spjax.vocabularies.vocabulary import load_vocabulary

TEXTS = [
    "the bird is red .",
    "",
    "  two  spaces and a\ttab \n",
    "a é ü € ½ ﬁ 日本 🙂",
    "<extra_id_0> yes",
    "is it <extra_id_0> or <extra_id_1> ?",
]


def tokenizer_json(name, path):
    """A tokenizer.json with the pieces of a SentencePiece file, as transformers makes T5's."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
    data = load_vocabulary(name).path.read_bytes()
    model = sentencepiece_model_pb2.ModelProto.FromString(data)
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(100))]
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    pieces += [(sentinel, 0.0) for sentinel in sentinels]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2, byte_fallback=False))
    normalizers = tokenizers.normalizers
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    made.add_special_tokens(["<pad>", "</s>", "<unk>", *sentinels])
    # What a published file has besides: EOS at the end, and a length to cut and to pad to.
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.enable_truncation(3)
    made.enable_padding(length=3)
    made.save(str(path))
    return str(path)


@pytest.mark.parametrize("name", ["pocket", "t5"])
def test_a_tokenizer_json_has_the_ids_of_the_sentencepiece_file(name, tmp_path):
    pieces = load_vocabulary(name)
    words = load_vocabulary(tokenizer_json(name, tmp_path / "tokenizer.json"))
    assert (words.size, words.sentinels) == (pieces.size, pieces.sentinels)
    assert [words.encode(text) for text in TEXTS] == [pieces.encode(text) for text in TEXTS]
    assert words.encode(TEXTS) == pieces.encode(TEXTS)
    ids = pieces.encode(TEXTS[0])
    assert words.decode([*ids, 0, 1, 7]) == pieces.decode(ids) == TEXTS[0]
    assert [words.piece(i) for i in (0, 1, *ids)] == [pieces.piece(i) for i in (0, 1, *ids)]
    words.check_sentinels(100)
    assert words.fingerprint != pieces.fingerprint == vocabulary.fingerprint(str(pieces.path))
    assert words.fingerprint == vocabulary.fingerprint(str(words.path))


def model_folder(rows, path):
    size = dataclasses.replace(
        get_size("pocket_50k"), vocab_size=rows, emb_dim=8, mlp_dim=8, num_heads=2, head_dim=4
    )
    weights.save(path / "w.safetensors", init_weights(size, jax.random.key(0)), {}, "float32")
    source = str(path / "w.safetensors")
    return Path(convert.convert(source, path / "model", "huggingface"))


def test_a_folder_with_a_tokenizer_json_alone(tmp_path):
    folder = model_folder(1152, tmp_path)
    path = tokenizer_json("pocket", folder / "tokenizer.json")
    text = json.dumps({"tokenizer_class": "TokenizersBackend"})
    (folder / "tokenizer_config.json").write_text(text)
    assert model_vocabulary.of("auto", str(folder)) == path
    copied = convert.convert(str(folder), tmp_path / "copy", "huggingface", vocabulary=path)
    found = find_vocabulary("", "auto", str(copied))
    assert found.encode(TEXTS[0]) == load_vocabulary("pocket").encode(TEXTS[0])
    (tmp_path / "small").mkdir()
    small = model_folder(1052, tmp_path / "small")
    tokenizer_json("pocket", small / "tokenizer.json")
    with pytest.raises(ValueError, match="has 1152 ids .* only 1052 rows"):
        model_vocabulary.of("auto", str(small))
    # A SentencePiece file comes first.
    (folder / "tokenizer_config.json").unlink()
    load_vocabulary("pocket").copy(folder, "spiece.model")
    assert model_vocabulary.of("auto", str(folder)) == str(folder / "spiece.model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no tokenizer.json that `tokenizers`"),
        ('{"model": {"type": "BPE"}, "added_tokens": []}', "is no tokenizer.json that"),
        (None, "has the special ids .*, but T5 needs"),
    ],
)
def test_other_tokenizer_files_are_refused(content, message, tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
    path = tmp_path / "tokenizer.json"
    if content is None:
        words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
        tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>")).save(str(path))
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_vocabulary(str(path))


def test_byt5_is_bytes_plus_three():
    words = load_vocabulary("byt5")
    assert words.size == 384 and (words.sentinel(0), words.sentinel(124)) == (259, 383)
    assert words.encode("a é") == [100, 35, 198, 172]
    assert words.encode(["", "b"]) == [[], [101]]
    assert words.encode("<extra_id_0> a <extra_id_124><extra_id_125>") == [
        *(259, 35, 100, 35, 383),
        *(byte + 3 for byte in b"<extra_id_125>"),
    ]
    for text in ("a é 日本 🙂\t\n", "<extra_id_7> b", ""):
        assert words.decode([*words.encode(text), 0, 1, 100]) == text
    assert words.decode([198, 100, 2]) == "a"  # half a character
    shown = [words.piece(token) for token in (0, 1, 2, 35, 100, 258, 259, 383)]
    assert shown == ["<pad>", "</s>", "<unk>", "▁", "a", "ÿ", "<extra_id_0>", "<extra_id_124>"]
    with pytest.raises(ValueError, match="span corruption needs 3 sentinels at the end"):
        words.check_sentinels(3)


def test_byt5_has_the_ids_of_transformers():
    transformers = pytest.importorskip("transformers", reason="the extra torch is not installed")
    theirs, ours = transformers.ByT5Tokenizer(), load_vocabulary("byt5")
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids
    assert len(theirs) == ours.size


def test_a_folder_of_byt5(tmp_path):
    folder = model_folder(384, tmp_path)
    with pytest.raises(ValueError, match="384 rows of the embedding are not"):  # which say nothing
        model_vocabulary.of("auto", str(tmp_path / "w.safetensors"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert model_vocabulary.of("auto", str(folder)) == "byt5"
    copied = convert.convert(str(folder), tmp_path / "copy", "huggingface", vocabulary="byt5")
    assert find_vocabulary("", "auto", str(copied)).size == 384
    (tmp_path / "small").mkdir()
    small = model_folder(300, tmp_path / "small")
    (small / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(ValueError, match="byt5 has 384 ids .* only 300 rows"):
        model_vocabulary.of("auto", str(small))


@pytest.mark.parametrize("name", ["byt5", "pocket"])
def test_seqio_gives_the_same_ids(name):
    pytest.importorskip("seqio", reason="the extra tfds is not installed")
    from spjax.data.token_cache import seqio_vocabulary

    words = load_vocabulary(name)
    theirs = seqio_vocabulary.of(words)
    assert (theirs.vocab_size, theirs.eos_id) == (words.size, 1)
    assert theirs.encode_tf(TEXTS[0]).numpy().tolist() == words.encode(TEXTS[0])
    tf = pytest.importorskip("tensorflow")
    texts = tf.data.Dataset.from_tensor_slices(TEXTS).map(theirs.encode_tf)
    assert [ids.numpy().tolist() for ids in texts] == words.encode(TEXTS)
    assert theirs.decode_tf(tf.constant(words.encode(TEXTS[0]))).numpy().decode() == TEXTS[0]
    assert theirs == seqio_vocabulary.of(words)
