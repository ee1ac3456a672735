"""Rules, options and processes: where things lie, and that the numbers do not depend on it."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from spjax import config, methods, multihost, partitioning
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import get_size
from spjax.models.t5 import weight_shapes
from spjax.studies import plan, run_folder
from spjax.training import loop
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run
from spjax.trees import flatten
from tests import cheap_compiling

HERE = Path(__file__).parent


def environment(devices, **values):
    """Of a process that compiles as fast as the tests do."""
    fast = cheap_compiling.environment(devices, "--xla_cpu_multi_thread_eigen=false")
    return os.environ | fast | values


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Returns the findings of `mesh_cases.py` on 8 simulated devices."""
    command = [sys.executable, str(HERE / "mesh_cases.py"), str(tmp_path_factory.mktemp("xla"))]
    place = environment(8, PYTHONPATH=str(HERE.parent))
    done = subprocess.run(command, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def cases(found):
    """The losses and sizes of each set of rules."""
    return found["rules"]


def test_axes_of_t5x_that_no_parameter_has_are_accepted():
    rules = [("abspos_buckets", None), ("stack", None), ("prompt", None), ("mlp", "model")]
    assert dict(partitioning.rules_of(rules))["mlp"] == "model"


@pytest.mark.slow
def test_every_method_has_the_losses_of_one_device(found):
    runs = 0
    for alone, there in found["methods"]:
        np.testing.assert_allclose(there, alone, rtol=1e-5)
        assert (np.array(alone[0]) != alone[1]).all()
        runs += len(alone[0])
    assert runs == sum(methods.get(name).trained for name in methods.names())


@pytest.mark.slow
def test_every_rule_set_gives_the_losses_of_one_device(cases):
    assert {name.split("/")[1] for name in cases} >= {"alone", *partitioning.RULES}
    for name, case in cases.items():
        alone = cases[f"{name.split('/')[0]}/alone"]
        np.testing.assert_allclose(case["losses"], alone["losses"], rtol=1e-5, err_msg=name)
    first, second = cases["prompt/alone"]["losses"]
    assert first[0] != second[0] and first[0] != first[1]


@pytest.mark.slow
def test_a_device_gets_its_share_of_the_arguments(cases):
    for name, case in cases.items():
        small = case["argument_bytes"] - case["expected_bytes"]
        assert 0 <= small < 2048, (name, case)  # the batch, rates and key
    shares = {name: case["share"] for name, case in cases.items()}
    assert shares["prompt/data_parallel/1"] == 1.0
    for kind in ("prompt", "full"):  # but for norms, bias tables and prompts
        assert shares[f"{kind}/tensor_parallel/4"] == pytest.approx(1 / 4, abs=0.03)
    for name in ("prompt/fsdp/1", "prompt/all", "full/fsdp/2"):
        assert shares[name] == pytest.approx(1 / 8, abs=0.04)


@pytest.mark.parametrize("scan", [False, True])
def test_every_parameter_has_logical_axes(scan):
    for size in ("t5_1_1_small", "pocket_50k"):
        shapes = weight_shapes(dataclasses.replace(get_size(size), scan_layers=scan))
        for name, leaf in flatten(shapes).items():
            axes = partitioning.logical_axes(name, len(leaf.shape))
            assert len(axes) == len(leaf.shape) and None not in axes, name
            assert ("layers" in axes) == ("/layers/" in name)


def test_axes_follow_t5x():
    assert partitioning.logical_axes("encoder/layers_3/attention/out/kernel", 2) == (
        "joined_kv",
        "embed",
    )
    assert partitioning.logical_axes("decoder/layers/mlp/wi_1/kernel", 3) == (
        "embed",
        "layers",
        "mlp",
    )
    assert partitioning.logical_axes("prompt", 2) == (None, None)


def test_a_dimension_that_does_not_divide_stays_whole():
    place = partitioning.Placement(
        partitioning.make_mesh(1, 4), partitioning.RULES["tensor_parallel"]
    )
    assert place.sharding(("heads", "relpos_buckets"), (6, 32)).is_fully_replicated
    assert place.sharding(("heads", "relpos_buckets"), (8, 32)).spec[0] == "model"


def test_rows_that_do_not_divide_are_replicated():
    place = partitioning.Placement(partitioning.make_mesh(4))
    assert place.put_batch(np.zeros((6, 2))).sharding.is_fully_replicated
    assert not place.put_batch(np.zeros((8, 2))).sharding.is_fully_replicated


def test_a_mesh_that_does_not_fit():
    with pytest.raises(ValueError, match="needs 10 devices, and there are 4"):
        partitioning.make_mesh(5, 2)
    with pytest.raises(ValueError, match="num_partitions is 3, which does not divide the 4"):
        partitioning.make_placement(3, "fsdp")
    assert dict(partitioning.make_placement(2, "fsdp").mesh.shape) == {"data": 2, "model": 2}


@pytest.fixture
def run(checkpoint):
    return Run(
        "pocket_cb",
        "pocket_50k",
        PromptTuning(length=3),
        Adafactor(0.3),
        checkpoint,
        steps=4,
        eval_period=2,
        batch_size=8,
        eval_examples=8,
        eval_batch_size=8,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logical_axis_rules": "fdsp"}, "logical_axis_rules is 'fdsp'; use one of data_parallel"),
        ({"logical_axis_rules": [("mlp", "data"), "mlp"]}, "holds 'mlp'; each rule is a pair"),
        ({"logical_axis_rules": [("mpl", "model")]}, "names the logical axis 'mpl'"),
        ({"logical_axis_rules": [("mlp", "modle")]}, "sends mlp to 'modle'"),
        ({"num_partitions": 2}, "no rule of 'data_parallel' spreads anything"),
        ({"num_partitions": 0}, "num_partitions is 0; it must be a whole number"),
        ({"microbatches": 3}, "microbatches is 3, which does not divide BATCH_SIZE"),
        ({"remat": "full"}, "remat is 'full'; it must be True or False"),
    ],
)
def test_bad_settings(run, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(run, **change)


def test_where_a_run_is_computed_is_not_which_run_it_is(run, tmp_path):
    key, text = config.run_key(run), config.config_str(run)
    changes = {
        "num_partitions": 2,
        "logical_axis_rules": "tensor_parallel",
        "microbatches": 4,
        "remat": True,
    }
    other = dataclasses.replace(run, **changes)
    assert config.run_key(other) == key
    assert all(f"Run.{name} = " in config.config_str(other) for name in changes)
    assert not any(f"Run.{name} = " in text for name in changes)
    assert config.identity(config.config_str(other)) == config.identity(text) == text.strip()
    run_folder.prepare(tmp_path, text)
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    run_folder.prepare(tmp_path, config.config_str(other))  # what a sweep does with another mesh
    assert run_folder.result(tmp_path) and run_folder.holds(tmp_path, text)
    assert run_folder.config_text(tmp_path) == config.config_str(other)
    elsewhere = dataclasses.replace(run, seed=1)
    assert not run_folder.holds(tmp_path, config.config_str(elsewhere))
    assert plan._spec(key, run, "arm").gang != plan._spec(key, other, "arm").gang
    dropped = dataclasses.replace(run, dropout_rate=0.1)  # masks differ between microbatches
    parts = dataclasses.replace(dropped, microbatches=4)
    assert config.run_key(parts) != config.run_key(dropped)


def test_compiled_programs_are_kept_beside_the_token_cache(monkeypatch, tmp_path):
    name, least = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {setting: getattr(jax.config, setting) for setting in (name, least)}
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path))
    try:
        jax.config.update(name, None)
        partitioning.keep_compiled_programs()
        assert getattr(jax.config, name) == str(tmp_path / "xla")
        assert getattr(jax.config, least) == 0
        jax.config.update(name, "elsewhere")  # as the user has it
        partitioning.keep_compiled_programs()
        assert getattr(jax.config, name) == "elsewhere"
    finally:
        for setting, value in before.items():
            jax.config.update(setting, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "JAX_PROCESS_COUNT is ''"),
        ({"JAX_PROCESS_COUNT": "two"}, "JAX_PROCESS_COUNT is 'two'"),
        ({"JAX_PROCESS_COUNT": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is 2 and"),
    ],
)
def test_an_address_without_its_numbers(monkeypatch, values, message):
    for name, value in ({"JAX_COORDINATOR_ADDRESS": "localhost:1"} | values).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        multihost.initialize()


def test_slurm_tasks_find_each_other(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **args: calls.append(args))
    multihost.initialize()  # alone: nothing to join
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for nodes in ("1", "2"):
        monkeypatch.setenv("SLURM_STEP_NUM_NODES", nodes)
        multihost.initialize()
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0,1")
    multihost.initialize()
    assert calls == [{"local_device_ids": x} for x in (None, [], None)]


SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_LOCALID": "0",
    "JAX_PLATFORMS": "cpu",
}
VISIBLE = """
import jax
from spjax import multihost
multihost.initialize()
assert jax.process_count() == 2
print(jax.config.values["jax_cuda_visible_devices"])
"""


@pytest.mark.parametrize("nodes, visible", [("1", "0"), ("2", "all")])
def test_a_task_that_is_alone_on_a_machine_sees_all_of_its_gpus(nodes, visible):
    """JAX would give it the first one alone."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {**os.environ, **SLURM, "SLURM_STEP_NUM_NODES": nodes}
    place["SLURM_JOB_ID"] = str(port % 4096)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", VISIBLE],
            env={**place, "SLURM_PROCID": str(i)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for process in running:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and output.strip() == visible


BODY = """
import json, pathlib, sys
from spjax import config
from spjax import multihost
from spjax.training import loop
multihost.initialize()
folder = pathlib.Path(sys.argv[2])
run = config.load("Run", [sys.argv[1]])
(result,) = loop.train([run], [folder])
"""


def outcome(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    return losses, json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(run, tmp_path, shared_cache):
    """Each has two of the four devices that this one has; only the first writes."""
    run = dataclasses.replace(run, logical_axis_rules="fsdp", num_partitions=2)
    gin = tmp_path / "run.gin"
    gin.write_text(config.config_str(run))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def begin(devices, folder, **values):
        place = environment(devices, SPJAX_CACHE=str(shared_cache), **values)
        command = [sys.executable, "-c", BODY, str(gin), str(tmp_path / folder)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=place, stdout=pipe, stderr=pipe, text=True)

    def end(*running):
        for process in running:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-4000:]

    loop.train([run], [tmp_path / "one"])
    address = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_PROCESS_COUNT": "2"}
    end(*[begin(2, "two", **address, JAX_PROCESS_ID=str(i)) for i in range(2)])
    (one, first), (two, second) = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    assert len(two) == 2
    np.testing.assert_allclose(two, one, rtol=1e-5)
    for name in ("test", "validation", "base_sha256", "best_step"):
        assert first[name] == second[name]
    assert len(list((tmp_path / "two").glob("events*"))) == 1
