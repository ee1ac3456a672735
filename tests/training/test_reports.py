"""Agreements of the processes of a run on its end."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from spjax.training import reports
from spjax.training.reports import Reports
from spjax.training.stop import StopRequested


@pytest.fixture
def devices(monkeypatch):
    """Two processes whose steps are sent in no time, and waited for by what the processes ask."""

    class Devices:
        now, seconds, sent, asked = 0.0, 0.25, 0, ()

        def gather(self, answer):
            self.now += self.sent * self.seconds
            self.sent, self.asked = 0, (*self.asked, self.now)
            return np.stack([answer, answer])

        def step(self, reports):
            self.sent += 1
            reports.agree()

    devices = Devices()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(reports.time, "monotonic", lambda: devices.now)
    monkeypatch.setattr(multihost_utils, "process_allgather", devices.gather)
    return devices


@pytest.mark.parametrize("seconds, steps", [(0.25, 400), (2.0, 50), (30.0, 5)])
def test_processes_ask_each_other_every_two_seconds_or_so(devices, seconds, steps):
    devices.seconds = seconds
    asking = Reports(None)
    for _ in range(steps):
        devices.step(asking)
    gaps = np.diff((0.0, *devices.asked))
    assert gaps.max() <= max(2.0, seconds) and np.median(gaps) >= min(2.0, seconds) / 2


def test_steps_that_become_slower_are_noticed(devices):
    asking = Reports(None)
    for _ in range(200):
        devices.step(asking)
    devices.seconds, before = 2.0, len(devices.asked)
    for _ in range(60):
        devices.step(asking)
    gaps = np.diff(devices.asked[before:])
    assert gaps[2:].max() <= 4.0


def test_one_of_two_processes_stops_both(devices):
    def stop(progress):
        raise StopRequested

    asking = Reports(stop)
    asking.report("progress")
    with pytest.raises(StopRequested):
        devices.step(asking)
