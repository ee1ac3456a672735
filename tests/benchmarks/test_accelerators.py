import json

import jax
import pytest

from benchmarks import accelerators as bench
from benchmarks import machine


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_large_model_is_timed(dtype, capsys):
    bench.main(["--case", "pocket_50k", dtype, "xla", "--rows", "2", "--text", "10"])
    found = json.loads(capsys.readouterr().out)
    assert found["real"] == 10 + bench.PROMPT and found["positions"] == 128
    assert found["seconds"] > 0
    whole = 2 * 49_000 if dtype == "bfloat16" else 49_000  # bytes of the matrices, about
    assert whole < found["weight_bytes"] < 1.4 * whole


def test_what_a_device_has_not_is_said(capsys):
    bench.main(["--case", "pocket_50k", "int8", "cudnn"])
    found = json.loads(capsys.readouterr().out)
    assert bench._told(found) == "pocket_50k, int8, cudnn: not on this device"


def test_gangs_grow_while_they_gain():
    rates = {1: 10.0, 2: 19.0, 4: 25.0, 8: 26.0}
    assert [own["runs"] for own in bench.gangs(rates.__getitem__)] == [1, 2, 4, 8]


def test_gangs_end_where_memory_is_full():
    def rate(runs):
        if runs >= full:
            raise jax.errors.JaxRuntimeError(f"{bench.FULL}: out of memory")
        return float(runs)

    full = 4
    assert bench.gangs(rate)[-1] == {"runs": 2, "examples_s": 2.0}
    full = 1
    with pytest.raises(jax.errors.JaxRuntimeError, match=bench.FULL):
        bench.gangs(rate)


def test_what_a_processor_can_do_is_found():
    text = "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nmodel name\t: Some CPU @ 2 GHz\n"
    found = machine.processor(text)
    assert found["flags"].split() == ["fpu", "avx2", "amx_bf16"]
    assert found["model name"] == "Some CPU @ 2 GHz"


def test_nothing_asked_for_is_no_failure(tmp_path):
    bench.main(["--large", "--gangs", "--results", str(tmp_path)])
    (path,) = tmp_path.glob("accelerators_*.json")
    assert json.loads(path.read_text())["large"] == []
