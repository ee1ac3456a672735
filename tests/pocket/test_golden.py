"""The data of a task version never changes: results of runs are kept by that version."""

import hashlib
import json

import pytest

from spjax.data.tasks import registry
from spjax.pocket import tasks

WORLDS = ("pocket", "graded")
GOLDEN = {
    "pocket_boolq": "2b522399f93735e1",
    "pocket_cb": "2b0430c6f68a2dc5",
    "pocket_copa": "a8c48662a582a0a6",
    "pocket_multirc": "5c9c1d06c287edbc",
    "pocket_record": "c59fbed007d40007",
    "pocket_rte": "7fddf5379b99a701",
    "pocket_wic": "56951acb794fa3cd",
    "pocket_wsc": "673e9cbfcf041ee8",
    "pocket_sentiment": "0d685d6957c1500b",
    "graded_boolq": "0d24c67f98be2915",
    "graded_cb": "fc589fec2378b678",
    "graded_copa": "8ca9c3257f67873b",
    "graded_multirc": "00ee4bd5fe5468d3",
    "graded_record": "94e36f2f7db81235",
    "graded_rte": "41d7973a3b321f8c",
    "graded_wic": "9cd1716fbc1ac6dc",
    "graded_wsc": "5af2a57799e15046",
    "graded_sentiment": "e7c172e8495c9e03",
}


NAMES = [name for name in registry.names() if registry.get(name).vocabulary in WORLDS]


@pytest.mark.parametrize("name", NAMES)
def test_records(name):
    info, total = registry.get(name), hashlib.sha256()
    for split in info.splits:
        for record in tasks.TASKS[info.source.removeprefix("pocket:")].records(split):
            total.update(json.dumps(record, sort_keys=True, default=str).encode())
    message = "the records have changed: raise the task's version and store the new hash here"
    assert total.hexdigest()[:16] == GOLDEN[name], message
