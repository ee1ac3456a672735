"""Compiled programs do not pile up in a long process."""

import platform
import subprocess
import sys

import jax
import pytest

from benchmarks import soak
from spjax.training import host_memory


def test_programs_go_when_they_take_too_many_maps(monkeypatch):
    cleared = []  # not really: the other tests of this process need their programs
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    maps = host_memory.memory_maps()
    assert maps > 10
    assert not host_memory.release_programs(most_maps=10 * maps) and not cleared
    assert host_memory.release_programs(most_maps=maps // 2) and cleared


def test_what_a_long_compilation_frees_goes_back(monkeypatch):
    trimmed, compiled = [], []
    monkeypatch.setattr(host_memory, "_trim", lambda: trimmed.append(1))
    monkeypatch.setattr(host_memory, "_LONG", 60)

    def listen(event, seconds, **facts):
        if event == host_memory._COMPILED:
            compiled.append(seconds)
            host_memory._trim_after_compilation(event, seconds + added, **facts)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for added, count in ((0, 0), (100, 1)):  # seconds longer than it took; times trimmed
            jax.jit(lambda x: x + 1 - added)(jax.numpy.ones(3)).block_until_ready()
            assert compiled and (len(trimmed) > 0) == count, (compiled, trimmed)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    count = len(trimmed)
    host_memory._trim_after_compilation("/jax/another", 100)
    assert len(trimmed) == count


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_listens_to_compilations():
    """In a process of its own, since the setting is for good."""
    program = (
        "import jax; from spjax.training import host_memory; calls = []\n"
        "host_memory._trim, host_memory._LONG = lambda: calls.append(1), 0\n"
        "assert host_memory.keep_freed_memory() and not calls\n"
        "jax.jit(lambda x: x + 1)(1).block_until_ready(); assert calls\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_training_looks_at_the_maps(run, tmp_path, monkeypatch):
    from spjax.training import loop

    class Looked(Exception):
        pass

    def look():
        raise Looked

    monkeypatch.setattr(host_memory, "release_programs", look)
    try:
        loop.train([run], [tmp_path])
    except Looked:
        return
    raise AssertionError("it trained without looking")


def test_the_soak_reports_what_a_process_takes(tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(soak, "train_one", lambda *args: trained.append(args))
    rows = soak.soak(runs=5, every=2, steps=3, folder=tmp_path)
    assert [row["runs"] for row in rows] == [1, 2, 4, 5] and len(trained) == 5
    assert all(row["rss_mib"] > 50 and row["maps"] > 10 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert len({str(bindings) for _, _, bindings, _ in trained}) == 5
