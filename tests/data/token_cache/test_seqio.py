"""The real path: seqio in a process of its own, every pocket task, from records to token ids."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spjax import metrics
from spjax.data.tasks import registry, templates
from spjax.data.token_cache import cache
from spjax.vocabularies.vocabulary import load_vocabulary

pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # TensorFlow starts for them

POCKET = [name for name in registry.names() if registry.get(name).source.startswith("pocket:")]


@pytest.fixture(scope="module", autouse=True)
def built(request: pytest.FixtureRequest, shared_cache: Path) -> None:
    """The tasks that the chosen tests need, by one start of TensorFlow for all test processes."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = {item.callspec.params.get("name") for item in items if hasattr(item, "callspec")}
    cache.ensure([name for name in POCKET if name in {*chosen, "pocket_copa"}])


def expected_examples(info: registry.TaskInfo, split: str) -> list[dict[str, Any]]:
    from spjax.pocket import tasks

    return [
        example
        for fields in tasks.TASKS[info.source.removeprefix("pocket:")].records(split)
        for example in templates.TEMPLATES[info.format.template](
            fields,
            labels=info.labels,
            features=info.format.features,
            training=split == "train",
        )
    ]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("name", POCKET)
def test_cache_holds_the_task_s_text_and_ids(name: str, split: str) -> None:
    info = registry.get(name)
    words = load_vocabulary(info.vocabulary)
    found = cache.load(name, split)
    expected = expected_examples(info, split)
    assert found.num_examples == len(expected) > 0
    for number, (example, cached) in enumerate(zip(expected, found.examples)):
        example["inputs_text"], example["targets_text"] = example.pop("inputs"), example["targets"]
        del example["targets"]
        assert cached == example
        assert found.inputs[number].tolist() == [*words.encode(cached["inputs_text"]), 1]
        assert found.targets[number].tolist() == [*words.encode(cached["targets_text"]), 1]
    assert found.inputs.lengths.max() <= info.input_length, "some text would be cut"


@pytest.mark.parametrize("name", POCKET)
def test_gold_targets_score_full_marks(name: str) -> None:
    info = registry.get(name)
    examples = cache.load(name, "validation").examples
    if info.postprocess == "wsc":  # the target of label 0 names the wrong referent
        examples = [example for example in examples if example["label"] == 1]
    scores = metrics.evaluate(info, [example["targets_text"] for example in examples], examples)
    assert set(scores.values()) == {100.0}


@pytest.mark.parametrize("name", POCKET)
def test_majority_is_the_world_s(name: str) -> None:
    from spjax.pocket import tasks

    info = registry.get(name)
    train, test = (cache.load(name, split) for split in ("train", "test"))
    found = metrics.majority(info, train.examples, test.examples)
    stated = tasks.TASKS[info.source.removeprefix("pocket:")].majority_rate()
    assert found == pytest.approx(stated)


PROGRAM = """
import json, sys
from spjax.data.token_cache import plain_tokens, seqio_tasks
from spjax.vocabularies import vocabulary
from spjax.data.tasks import registry
import seqio, tensorflow as tf

vocabulary_path = sys.argv[1]
ours = vocabulary.load_vocabulary(vocabulary_path)
theirs = seqio.SentencePieceVocabulary(vocabulary_path, extra_ids=100)
texts = ["the bird", "", " two  spaces ", "a <extra_id_0> b<extra_id_7> c", 'quotes "x" \\n é']
same_ids = [ours.encode(t) == list(theirs.encode(t)) == theirs.encode_tf(t).numpy().tolist()
            for t in texts]
same_text = [ours.decode(ours.encode(t) + [1, 5]) == theirs.decode(ours.encode(t) + [1, 5])
             for t in texts]
# A source in the manner of TFDS: nested fields, lists of any length, bytes.
records = [
    {"passage": f"Passage é {i}.\\n@highlight\\nMore", "query": "@placeholder?",
     "entities": ["a"] * (i % 3), "answers": [str(j) for j in range(i % 4)],
     "entity_spans": {"text": ["a"] * (i % 3), "start": [1] * (i % 3)},
     "idx": {"passage": i, "query": 2 * i}}
    for i in range(600)
]
spec = tf.nest.map_structure(
    lambda value: tf.TensorSpec([], tf.string if isinstance(value, str) else tf.int64),
    {"passage": "", "query": "", "idx": {"passage": 0, "query": 0}})
spec |= {"entities": tf.TensorSpec([None], tf.string), "answers": tf.TensorSpec([None], tf.string)}
spec["entity_spans"] = {"text": tf.TensorSpec([None], tf.string),
                        "start": tf.TensorSpec([None], tf.int64)}
dataset = tf.data.Dataset.from_generator(lambda: iter(records), output_signature=spec)
info = registry.get("pocket_record")
made = {training: [
    {key: value.decode() for key, value in row.items()}
    for row in seqio_tasks.to_text(dataset, info=info, training=training).as_numpy_iterator()
] for training in (True, False)}
def tokens(module, name, split, lengths):
    rows = module.examples(registry.get(name), split, lengths)
    return [(inputs.tolist(), targets.tolist(), fields) for inputs, targets, fields in rows]

cut = [row[:2] for row in tokens(seqio_tasks, "pocket_copa", "validation", {"inputs": 8, "targets": 2})]
split_by = {"pocket_wsc": "train", "pocket_record": "train"}
file = sys.argv[2]
compared = [n for n in registry.names() if n.startswith("pocket")] + ["pocket_copa:sentinel", file]
unequal = [
    name for name in compared for lengths in ({"inputs": 24, "targets": 3}, {"inputs": 512, "targets": 64})
    if tokens(plain_tokens, name, split_by.get(name, "validation"), lengths)
    != tokens(seqio_tasks, name, split_by.get(name, "validation"), lengths)
]
seqio_tasks.register_all()
seqio_tasks.register_all()
names = sorted(seqio.TaskRegistry.names())
print(json.dumps({"same_ids": same_ids, "same_text": same_text, "train": made[True],
                  "eval": made[False], "records": records, "names": names, "cut": cut,
                  "unequal": unequal, "compared": len(compared)}))
"""


@pytest.fixture(scope="module")
def in_tensorflow(vocabulary_path: Path, tmp_path_factory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("file") / "rows.jsonl"
    rows = [{"input": f"two  spaces é {i}\n", "target": "x" * (i % 9 + 1)} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(vocabulary_path), str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_vocabulary_is_seqio_s(in_tensorflow: dict[str, Any]) -> None:
    assert all(in_tensorflow["same_ids"]) and all(in_tensorflow["same_text"])


def test_texts_too_long_are_cut_before_eos(in_tensorflow: dict[str, Any]) -> None:
    whole = cache.load("pocket_copa", "validation")
    assert len(in_tensorflow["cut"]) == whole.num_examples
    for number, (inputs, targets) in enumerate(in_tensorflow["cut"]):
        assert inputs == [*whole.inputs[number][:7], 1]
        assert targets == [whole.targets[number][0], 1]


def test_pocket_tasks_and_files_need_no_seqio(in_tensorflow: dict[str, Any]) -> None:
    assert in_tensorflow["compared"] >= 11 and in_tensorflow["unequal"] == []


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_template_over_any_source(kind: str, in_tensorflow: dict[str, Any]) -> None:
    expected = [
        example
        for fields in in_tensorflow["records"]
        for example in templates.record(fields, labels=(), features=(), training=kind == "train")
    ]
    found = [row | json.loads(row.pop("fields")) for row in in_tensorflow[kind]]
    assert found == expected


def test_every_task_is_registered_for_training_and_evaluation(
    in_tensorflow: dict[str, Any],
) -> None:
    expected = {
        f"{name}_{'train' if split == 'train' else 'eval'}"
        for name in registry.names()
        for split in registry.get(name).splits
    }
    assert expected <= set(in_tensorflow["names"])
