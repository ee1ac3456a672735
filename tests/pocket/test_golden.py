"""The data of a task version never changes: results of runs are kept by that version."""

import hashlib
import json

import pytest

from spjax.data.tasks import registry
from spjax.pocket import tasks

GOLDEN = {
    "pocket_boolq": "b4f2661da42c7f04",
    "pocket_cb": "4b9f5aada586577c",
    "pocket_copa": "39da7a9100959591",
    "pocket_multirc": "d184ddfeadd87795",
    "pocket_record": "8484e7b0dbefe001",
    "pocket_rte": "94a8b883adb3ffdf",
    "pocket_wic": "2589085801c5732a",
    "pocket_wsc": "673e9cbfcf041ee8",
    "pocket_sentiment": "a2c8dba7d7f445f5",
}


@pytest.mark.parametrize("name", [n for n in registry.names() if n.startswith("pocket_")])
def test_records(name):
    info, total = registry.get(name), hashlib.sha256()
    for split in info.splits:
        for record in tasks.TASKS[name.removeprefix("pocket_")].records(split):
            total.update(json.dumps(record, sort_keys=True, default=str).encode())
    message = "the records have changed: raise the task's version and store the new hash here"
    assert total.hexdigest()[:16] == GOLDEN[name], message
