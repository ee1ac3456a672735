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
    "graded_boolq": "016a5b7312a8fdb9",
    "graded_cb": "3ca6988abf3f2076",
    "graded_copa": "ff40cc22cdfb22a0",
    "graded_multirc": "cd484e1228a4f6e9",
    "graded_record": "3df26d8013efbdb0",
    "graded_rte": "2cc34231e4775fae",
    "graded_wic": "2393dead801f1df2",
    "graded_wsc": "da38e393e804e64a",
    "graded_sentiment": "1b58dc5d09a26305",
    "graded_boolq_notes": "f6bd183b351e10c2",
    "graded_boolq_rare": "4ddf5285d9d3f1cd",
    "graded_cb_notes": "4098c43ef32503d2",
    "graded_cb_rare": "6e6f269d21748f07",
    "graded_rte_notes": "062dbd88217ae486",
    "graded_rte_rare": "6134dec6c52cc148",
    "graded_sentiment_notes": "02e9f69040949755",
    "graded_sentiment_rare": "e83b7619c2a695bc",
}


NAMES = [name for name in registry.names() if registry.get(name).vocabulary in WORLDS]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_records(name):
    info, total = registry.get(name), hashlib.sha256()
    for split in info.splits:
        for record in tasks.TASKS[info.source.removeprefix("pocket:")].records(split):
            total.update(json.dumps(record, sort_keys=True, default=str).encode())
    message = "the records have changed: raise the task's version and store the new hash here"
    assert total.hexdigest()[:16] == GOLDEN[name], message
