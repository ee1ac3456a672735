"""Body of a process that compiles a tiny model's programs for a TPU slice that is not here.

Writes a JSON object by case: seconds, or the error. Arguments: the cases to compile, none for all
of the tiny model; or "largest" for what the largest model needs.
"""

import dataclasses
import functools
import inspect
import json
import sys
import time

import jax
import jax.numpy as jnp

from spjax import methods, platforms
from spjax.data.batching.packing import ChunkShape
from spjax.methods.initializers import Uniform
from spjax.models import T5, T5Config, get_size
from spjax.models.decoding import KINDS, Decoding, decode
from spjax.models.quantization import DTYPES
from spjax.partitioning import RULES
from spjax.studies.hardware import topologies, tpu_compiler
from spjax.studies.hardware.settings import Setting
from spjax.training import lowering, trainer
from spjax.training.optimizers import Adafactor, AdamW
from spjax.training.run import Run

TOPOLOGY = "v5e:2x2"
CONFIG = T5Config(128, 128, 4, 32, 128, 2, 2, scan_layers=True)
PACKED, PLAIN = ChunkShape(4, 128, 16, 4), ChunkShape(4, 128, 8, 1)
ANSWERED = (4, 128, 8)  # rows, positions, tokens
MESHES = {"data_parallel": (4, 1), "tensor_parallel": (2, 2), "fsdp": (2, 2)}


def instance(name):
    """A small method."""
    known = inspect.signature(methods.get(name)).parameters
    sizes = {"length": 4, "hidden": 8, "rank": 2, "initializer": Uniform()}
    return methods.get(name)(**{k: v for k, v in sizes.items() if k in known})


def step_of(method="prompt_tuning", rules="data_parallel", mesh=(4, 1), shape=PACKED, **settings):
    """Shapes of a step on the slice, and its placement."""
    runs = settings.pop("runs", 1)
    run = Run(
        task="pocket_cb",
        model="pocket_50k",
        method=instance(method),
        optimizer=settings.pop("optimizer", Adafactor(0.3)),
        num_partitions=mesh[1],
        logical_axis_rules=rules,
        **settings,
    )
    setting = Setting(*mesh, rules, weights_dtype=run.weights_dtype)
    place = setting.placement(compiler().mesh(setting))
    return lowering.step_shapes(run, CONFIG, place, shape, runs), place, run


@functools.cache
def compiler():
    """The compiler of the slice."""
    return tpu_compiler.Compiler(topologies.parse(TOPOLOGY))


def decoding(kind, **settings):
    """The program of answers by a kind of decoding."""
    step, place, _ = step_of(shape=PLAIN, **settings)
    rows, _, tokens = ANSWERED
    model, how = T5(step.config.model), Decoding(kind=kind, num_beams=2, top_k=3)
    here = functools.partial(jax.ShapeDtypeStruct, sharding=place.replicated)
    labels = 2 if kind == "rank" else 0

    def answer(base, batch, soft, numbers_B, labels_CM, allowed_BC):
        return decode(how, model, base, batch, soft, tokens, numbers_B, labels_CM, allowed_BC)

    return jax.jit(answer).lower(
        step.base,
        step.batch,
        step.inputs,
        here((rows,), jnp.int32),
        here((labels, 3), jnp.int32),
        here((rows, labels), bool),
    )


def evaluation(**settings):
    """The program that evaluations of training decode with."""
    step, place, run = step_of(**settings)
    return lowering.answers(run, step, place, *ANSWERED)


def several_steps():
    """Two steps in one program."""
    step, place, _ = step_of()

    def stacked(x):
        spec = (None, *x.sharding.spec)
        at = jax.sharding.NamedSharding(place.mesh, jax.sharding.PartitionSpec(*spec))
        return jax.ShapeDtypeStruct((2, *x.shape), x.dtype, sharding=at)

    chunks, totals = [jax.tree.map(stacked, step.batch)], stacked(step.rates)
    return trainer._scan_steps.lower(
        step.config, step.states, step.base, chunks, totals, step.rates, step.key
    )


def cases():
    """Name and maker of each program."""
    every = [name for name in methods.names() if methods.get(name).trained]
    programs = {f"gradients of {name}": (step_of, {"method": name}, "gradients") for name in every}
    programs |= {f"update of {name}": (step_of, {"method": name}, "update") for name in every}
    for rules in RULES:
        settings = {"rules": rules, "mesh": MESHES[rules]}
        programs[f"gradients under {rules}"] = (step_of, {**settings, "remat": True}, "gradients")
        full = {**settings, "method": "full_fine_tuning", "optimizer": AdamW(1e-3)}
        programs[f"update under {rules}"] = (step_of, full, "update")
    for dtype in DTYPES:
        fsdp = {"weights_dtype": dtype, "rules": "fsdp", "mesh": (2, 2)}
        programs[f"gradients in {dtype}"] = (step_of, fsdp, "gradients")
        programs[f"evaluation in {dtype}"] = (evaluation, {"weights_dtype": dtype}, "")
    programs["gradients of a gang"] = (step_of, {"runs": 3}, "gradients")
    programs["gradients with dropout"] = (
        step_of,
        {"dropout_rate": 0.1, "shape": PLAIN},
        "gradients",
    )
    programs["several steps at once"] = (several_steps, {}, "")
    programs |= {f"decoding by {kind}": (decoding, {"kind": kind}, "") for kind in KINDS}
    return programs


def largest(remat):
    """Needs of the gradients of T5 1.1 XXL on each of 16 chips: 32 rows of 640, in bfloat16."""
    run = Run(
        task="pocket_cb",
        model="t5_1_1_xxl",
        method=instance("prompt_tuning"),
        optimizer=Adafactor(0.3),
        checkpoint="gs://bucket/weights",
        dropout_rate=0.1,
        weights_dtype="bfloat16",
        logical_axis_rules="fsdp",
        remat=remat,
    )
    setting = Setting(16, 1, "fsdp", remat=remat, weights_dtype="bfloat16")
    slice_of_16 = tpu_compiler.Compiler(topologies.parse("v5e:4x4"))
    place = setting.placement(slice_of_16.mesh(setting))
    config = dataclasses.replace(get_size(run.model), scan_layers=True)
    step = lowering.step_shapes(run, config, place, ChunkShape(32, 640, 16, 1))
    need = tpu_compiler.compiled_needs(step.gradients())
    return {**need, "weights": lowering.bytes_on_device(step.base)}


def lowered(make, settings, program):
    """The program of a case."""
    value = make(**settings)
    return getattr(value[0], program)() if program else value


def main():
    """Compiles the cases."""
    chosen = sys.argv[1:] or list(cases())
    results = {}
    with platforms.compiling_for("tpu"):
        if chosen == ["largest"]:
            json.dump({"plain": largest(False), "remat": largest(True)}, sys.stdout)
            return
        for name in chosen:
            start = time.monotonic()
            try:
                need = tpu_compiler.compiled_needs(lowered(*cases()[name]))
                assert need["fits"], need
                results[name] = round(time.monotonic() - start, 1)
            except Exception as error:  # of any kind: it is what the test reports
                results[name] = f"{type(error).__name__}: {error}"
            print(name, str(results[name])[:300], file=sys.stderr, flush=True)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
