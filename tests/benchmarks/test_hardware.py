"""The kept plans as a table."""

import json

from benchmarks import hardware


def test_plans_are_kept_and_not_made_again(monkeypatch, tmp_path, capsys):
    row = {"model": "m", "method": "prompt_tuning", "fits": True, "as_configured": False}
    row |= {"data_devices": 4, "model_devices": 2, "rules": "fsdp", "weights_dtype": "float32"}
    row |= {"remat": True, "microbatches": 2, "weights_bytes": 1e9, "state_bytes": 0.0}
    row |= {"activations_bytes": 5e8, "bytes": 1.5e9, "compiled": False}
    row |= {"least_step_seconds": 0.01, "most_step_seconds": 0.052}
    row |= {"least_device_hours": 99.0, "most_device_hours": 1234.0}
    calls = []

    def planned(size, topology):
        calls.append((size, topology))
        return {"rows": [row], "text": "", "versions": {}, "seconds": 1}

    monkeypatch.setattr(hardware, "planned", planned)
    flags = ["--results", str(tmp_path), "--topologies", "v5e:4x4", "--sizes", "small"]
    hardware.main(flags)
    hardware.main([*flags, "base"])
    assert calls == [("small", "v5e:4x4"), ("base", "v5e:4x4")]
    hardware.main([*flags, "xl", "--minutes=0"])
    assert len(calls) == 2 and len(json.loads((tmp_path / "hardware.json").read_text())) == 2
    line = (
        "| v5e:4x4 | m | prompt_tuning | with changes | 4x2, fsdp, float32, remat, 2 microbatches "
        "| 1.00 | 0.00 | 0.50 | 1.50 (model) | 0.01 to 0.052 | 99 to 1,234 |"
    )
    assert line in capsys.readouterr().out.splitlines()
