"""T5's and the authors' own preprocessors still give the texts of `tests/data/t5_texts.json`.

Needs an importable t5 (tried: 0.9.4, beside seqio 0.0.20) and, for the names removed from the front
and for MRQA, google-research/prompt-tuning, which is on no package index.
`tests/data/test_templates.py` compares our templates with that file.

`python tests/parity/test_t5_preprocessors.py` with both importable writes the file anew from the
records in it; to add a record, add it there with "expected": [] and run this.
"""

import functools
import json
import warnings
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "tasks" / "t5_texts.json"
ROWS = json.loads(GOLDEN.read_text())

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that t5 imports
    t5 = pytest.importorskip("t5.data.preprocessors", exc_type=ImportError)
    from t5.data import glue_utils

import seqio  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

GLUE = tfds.text.glue.Glue.builder_configs
SUPER_GLUE = tfds.text.super_glue.SuperGlue.builder_configs
NO_NAME = {"squad", "mrqa"}  # nothing is in front that could be removed
MANY_WORDS = {"samsum", "xsum", "cnn_dailymail", "wmt16_enro"}  # the authors remove nothing here


def authors():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "prompt_tuning.data.preprocessors"
        return pytest.importorskip(name, exc_type=ImportError)


def preprocessor(dataset, training):
    """Returns T5's function from records of `dataset` to texts, as in t5/data/tasks.py."""
    if dataset in ("wsc", "dpr"):
        simple = functools.partial(t5.wsc_simple, correct_referent_only=training)
        return simple if dataset == "wsc" else t5.definite_pronoun_resolution_simple
    if dataset in ("squad", "mrqa"):
        return t5.squad if dataset == "squad" else authors().mrqa
    if dataset == "wmt16_enro":
        return functools.partial(t5.translate, source_language="en", target_language="ro")
    if dataset in MANY_WORDS:
        keys = {"samsum": ("dialogue", "summary"), "xsum": ("document", "summary")}
        article, summary = keys.get(dataset, ("article", "highlights"))
        return functools.partial(t5.summarize, article_key=article, summary_key=summary)
    if dataset == "axb":
        keys = {"premise": "sentence1", "hypothesis": "sentence2", "label": "label", "idx": "idx"}
        inner = glue_utils.get_glue_text_preprocessor(SUPER_GLUE["axb"])
        return lambda dataset: inner(seqio.preprocessors.rekey(dataset, keys))
    name = {"mrpc_from_qqp": "mrpc", "qqp_from_mrpc": "qqp"}.get(dataset, dataset)
    glue = name.removeprefix("glue_")
    config = SUPER_GLUE[name] if name in SUPER_GLUE else GLUE[glue]
    return glue_utils.get_glue_text_preprocessor(config)


def tensor(value):
    if isinstance(value, dict):
        return {key: tensor(item) for key, item in value.items()}
    if isinstance(value, list):
        kind = tf.int32 if value and isinstance(value[0], int) else tf.string
        return tf.constant(value, kind)
    return tf.constant(value, {int: tf.int32, float: tf.float32, str: tf.string}[type(value)])


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    return [plain(item) for item in value] if hasattr(value, "__len__") else value


def texts(row):
    """Inputs, targets and answers that T5 makes of a record, and the inputs without the name."""
    dataset = preprocessor(row["dataset"], row["training"])(
        tf.data.Dataset.from_tensors(tensor(row["record"]))
    )
    found = [
        {
            key: plain(example[key])
            for key in ("inputs", "targets", "answers")
            if key in example and not isinstance(example[key], dict)
        }
        for example in dataset.as_numpy_iterator()
    ]
    if row["dataset"] not in NO_NAME | MANY_WORDS:
        shorter = authors().remove_first_text_token(dataset).as_numpy_iterator()
        for example, other in zip(found, shorter, strict=True):
            example["taskless"] = plain(other["inputs"])
    return found


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}_{row['dataset']}" for i, row in enumerate(ROWS)])
def test_texts(row):
    assert texts(row) == row["expected"]


@pytest.mark.parametrize(
    "label", [0, 0.1, 0.3, 0.5, 0.7, 1.1, 1.3, 2.5, 2.7, 3.5, 4.1, 4.7, 4.9, 5, 2.333, -1, -0.05]
)
def test_similarities(label):
    from spjax.data.tasks import templates

    fields = {"sentence1": "a", "sentence2": "b", "label": float(label), "idx": 0}
    (expected,) = t5.stsb(tf.data.Dataset.from_tensors(tensor(fields))).as_numpy_iterator()
    (found,) = templates.stsb(fields, labels=(), features=(), training=False)
    assert found["targets"] == expected["targets"].decode()


def test_padded_punctuation():
    from spjax.data.tasks import templates_text

    words = "".join(chr(code) for code in range(1, 0x3100) if not 0xD800 <= code < 0xE000)
    for text in (words, " ".join(words), "\v ".join(words), "a" + "\u00a0".join(words)):
        expected = t5._pad_punctuation(tf.constant(text)).numpy().decode()
        assert templates_text.pad_punctuation(text) == expected


if __name__ == "__main__":
    made = [{**row, "expected": texts(row)} for row in ROWS]
    lines = ",\n".join(json.dumps(row) for row in made)
    GOLDEN.write_text(f"[\n{lines}\n]\n")
