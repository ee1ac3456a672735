"""Compiled programs do not pile up in a long process."""

import jax

from benchmarks import soak
from spjax.training import host_memory


def test_programs_go_when_they_take_too_many_maps(monkeypatch):
    cleared = []  # not really: the other tests of this process need their programs
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    maps = host_memory.memory_maps()
    assert maps > 10
    assert not host_memory.release_programs(most_maps=10 * maps) and not cleared
    assert host_memory.release_programs(most_maps=maps // 2) and cleared


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
