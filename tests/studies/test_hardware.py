"""Plans of hardware: topologies, the search for a setting, and the command, without a compiler."""

import dataclasses
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

import spjax
from spjax import extras, partitioning, platforms
from spjax.api import hardware as api
from spjax.cli import cache as cache_cli
from spjax.cli import main
from spjax.data.batching.packing import ChunkShape
from spjax.data.token_cache import cache
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import get_size
from spjax.studies.hardware import kinds, report, search, settings, topologies, tpu_compiler
from spjax.studies.hardware.estimates import Memory, StepModel
from spjax.studies.hardware.report import KindPlan
from spjax.studies.hardware.search import Compiled
from spjax.studies.hardware.settings import Setting
from spjax.training import lowering
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

ROOT = Path(__file__).parents[2]
STUDY = "experiments/pocket/quickstart.gin"
LABELS = {"model": "t5_1_1_large", "method": "prompt_tuning", "prompt_length": 100}
ONE_KIND = ["--gin.SIZES=['pocket_200k']", "--gin.TASKS=['pocket_cb']", "--gin.SEEDS=[0]"]


@pytest.fixture(autouse=True)
def in_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def in_process(monkeypatch):
    """Plans in this process, through the JSON that a process of its own would get and give."""

    def run(function, requests, purpose, variables):
        assert function == f"{kinds.__name__}:{kinds.fits.__name__}"
        assert variables["JAX_PLATFORMS"] == "cpu"
        return [json.loads(json.dumps(kinds.fits(json.loads(json.dumps(x))))) for x in requests]

    monkeypatch.setattr(api, "subprocesses", SimpleNamespace(run=run))


def large(model="t5_1_1_xxl", method=None, **changed):
    settings = {"dropout_rate": 0.1, "weights_dtype": "bfloat16", **changed}
    return Run(
        task="pocket_cb",
        model=model,
        method=method or PromptTuning(length=100),
        optimizer=Adafactor(0.3),
        checkpoint="gs://bucket/weights",
        **settings,
    )


def searched(run, topology="v5e:4x4", compile=None, **more):
    devices = topologies.parse(topology)
    config = partitioning.for_devices(get_size(run.model))
    config = dataclasses.replace(config, scan_layers=True)
    return search.Search(run, config, (512, 16), devices, compile=compile, **more)


@pytest.fixture
def for_tpu():
    with platforms.compiling_for("tpu"):
        yield


def test_topologies_name_chips_and_shapes():
    slice_of_16 = topologies.parse("v5e:4x4")
    assert slice_of_16.count == 16 and slice_of_16.meshes == [16]
    assert 15.7 < slice_of_16.chip.limit / 2**30 < 15.8  # as its compiler says
    assert topologies.parse("v4:2x2x4").count == 16
    gpus = topologies.parse("gpu:H100:8")
    assert (gpus.name, gpus.meshes) == ("gpu:h100:8", [1, 2, 4, 8])
    cores = topologies.parse("cpu:2")
    assert (cores.count, cores.meshes, cores.chip.platform) == (2, [1], "cpu")
    assert all(chip.source for chip in topologies.CHIPS.values())


@pytest.mark.parametrize(
    "text, message",
    [
        ("v9:4x4", r"unknown topology 'v9:4x4': there are the TPUs v4, .* Write v5e:4x4, "),
        ("h100:8", r"unknown topology 'h100:8'"),
        ("gpu:v5e:4", r"unknown topology"),
        ("", r"unknown topology"),
        ("v5e:", r"has '' for the sides of the slice"),
        ("v5e:4x4x4x4", r"has '4x4x4x4' for the sides"),
        ("gpu:h100:0", r"has '0' for the number of devices"),
        ("gpu:h100:2x4", r"has '2x4' for the number of devices"),
        ("cpu:many", r"has 'many' for the number of devices"),
    ],
)
def test_another_topology_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        topologies.parse(text)


def test_the_largest_model_needs_remat_on_16_small_chips(for_tpu):
    """Compares the model with the compiler: 18.8 GiB of temporaries without it, 2.42 GB with."""
    plain, saving = Setting(16, 1, "fsdp"), Setting(16, 1, "fsdp", remat=True)
    run = large()
    config, shape = searched(run).config, ChunkShape(32, 640, 16, 1)
    needs = {}
    for setting in (plain, saving):
        setting = dataclasses.replace(setting, weights_dtype="bfloat16")
        needs[setting.remat] = StepModel(
            setting.applied(run), config, setting, shape, (512, 16)
        ).memory()
    assert needs[False].activations == pytest.approx(18.8 * 2**30, rel=0.15)
    assert needs[True].activations == pytest.approx(2.42e9, rel=0.25)
    assert needs[True].weights == pytest.approx(1.39e9, rel=0.01)
    assert needs[True].total < topologies.CHIPS["v5e"].limit < needs[False].total


def test_a_setting_that_keeps_the_numbers_is_preferred(for_tpu):
    configured, chosen = searched(large()).best()
    assert not configured.fits and chosen.fits
    assert not chosen.setting.changes_numbers(large()) and chosen.setting.remat
    assert chosen.setting.weights_dtype == "bfloat16" and chosen.setting.microbatches == 1
    assert "Run.remat = True" in chosen.setting.bindings(large())
    # Without dropout, parts of a batch give the same sums.
    assert not Setting(16, microbatches=2, weights_dtype="bfloat16").changes_numbers(
        large(dropout_rate=0.0)
    )


def test_the_compiler_has_the_last_word(for_tpu):
    tried = []

    def compile(setting, model):
        tried.append(setting)
        fits = len(tried) > 2
        return Compiled(Memory(1e9, 2e6, 3e9, 4e6), fits)

    run = large("t5_1_1_large")
    configured, chosen = searched(run, compile=compile).best()
    assert tried[0] == configured.setting and not configured.fits and configured.compiled
    assert chosen.setting == tried[2] and chosen.compiled and chosen.memory.program == 4e6
    # What has no room for the weights alone is not compiled.
    tried.clear()
    plain = searched(large(weights_dtype="float32"), compile=compile).fit(Setting(16))
    assert not plain.fits and not plain.compiled and not tried


def test_more_memory_than_there_is_does_not_fit_whatever_the_compiler_accepts(for_tpu):
    full = searched(large("t5_1_1_base"), compile=lambda *_: Compiled(Memory(1e9, 0, 16e9)))
    assert not full.fit(Setting(16)).fits


@pytest.mark.slow
def test_where_nothing_fits_more_devices_are_named(for_tpu):
    study = searched(large(method=FullFineTuning(), batch_size=128), "v5e:2x2")
    assert study.best()[1] is None
    assert study.devices_needed() in (16, 32, 64)


def test_a_gang_is_as_wide_as_it_gains(for_tpu):
    run = large("t5_1_1_small", dropout_rate=0.0, batch_size=1)
    (fit, _) = searched(run, "v5e:2x2", gang=24).best()
    assert 1 < fit.setting.runs <= 24  # four chips, and a row of a run's own
    assert searched(run, gang=24, gang_width=3).best()[0].setting.runs == 3
    assert searched(large("t5_1_1_small")).best()[0].setting.runs == 1


def test_gpus_are_shared_out_to_runs(for_tpu):
    small = searched(large("t5_1_1_small", weights_dtype="float32"), "gpu:h100:8").best()[1]
    xxl = searched(large(), "gpu:h100:8").best()[1]
    assert small.setting.devices == 1 < xxl.setting.devices


def test_evaluations_of_uncut_texts_may_need_the_most(for_tpu):
    run = large("t5_1_1_large", eval_batch_size=32)
    cut = searched(run, "gpu:h100:1").fit(Setting(1, remat=True))
    uncut = searched(run, "gpu:h100:1", evaluated=(2000, 16)).fit(Setting(1, remat=True))
    assert not cut.evaluates_most and uncut.evaluates_most
    assert uncut.memory.activations > 2 * cut.memory.activations
    least, most = (
        [fit.evaluation_seconds[i] for fit in (cut, uncut)] for i in (0, 1)
    )  # typical texts are as long as before
    assert least[0] == least[1] and most[1] > 2 * most[0]
    configured, chosen = searched(run, "gpu:h100:1", evaluated=(9000, 16)).best()
    assert chosen is None and configured.evaluates_most
    kind = kinds.Kind((SimpleNamespace(run=run, labels=LABELS),))
    advice = report.advice(KindPlan(kind, configured, chosen), topologies.parse("gpu:h100:1"))
    assert "Its evaluations need the most: set Run.eval_batch_size lower." in advice


def test_rows_of_a_gang_hold_its_examples(for_tpu):
    run = large("t5_1_1_small", dropout_rate=0.0)
    config = get_size(run.model)
    one = settings.chunk_shape(run, config, Setting(2), (100, 4))
    two = settings.chunk_shape(run, config, Setting(2, runs=2), (100, 4))
    assert one.rows * one.length >= 32 * 200 and one.rows % 2 == 0
    assert two.rows * two.length > 1.9 * one.rows * one.length


def test_the_command_prints_the_plan_of_a_study(in_process, capsys):
    assert main.main(["plan", STUDY, "--topology=gpu:h100:2", *ONE_KIND]) == 0
    out = capsys.readouterr().out
    assert "full_fine_tuning" in out and "prompt_tuning" in out and "device-hours" in out
    assert "https://www.nvidia.com" in out and "not measured" in out


@pytest.mark.slow
def test_a_study_that_does_not_fit_is_told_from_python(in_process, tmp_path):
    files = ["gin_configs/models/t5_1_1_lm100k.gin", "gin_configs/runs/paper.gin"]
    files.append("gin_configs/methods/full_fine_tuning.gin")
    axes = {"MODEL_SIZE": ["t5_1_1_xxl"], "MIXTURE_OR_TASK_NAME": ["pocket_cb"]}
    study = tmp_path / "study.gin"
    study.write_text(
        f"Study.name = 'large'\nStudy.arms = [@Arm()]\nArm.name = 'a'\nArm.gin_files = {files}\n"
        f"Arm.axes = {axes}\n"
    )
    plan = spjax.plan(study, "gpu:a100:1")
    assert not plan.fits and plan.table["fits"].tolist() == [False]
    assert "No mesh, remat or microbatches make it fit" in plan.text
    assert plan.table["weights_bytes"][0] == pytest.approx(44.5e9, rel=0.01)
    # On cores of a CPU the time is that of `spjax sweep --dry_run`.
    small = spjax.plan(STUDY, "cpu:2", {"SIZES": ["pocket_50k"], "SEEDS": [0]})
    seconds = sum(spec.seconds for kind in small.kinds for spec in kind.kind.specs)
    assert small.fits and small.table["device_hours"].sum() == pytest.approx(seconds / 3600)


def test_a_crash_of_the_compiler_leaves_the_model(monkeypatch, tmp_path):
    """Of the kind that it has crashed for alone; of GPUs there is no compiler to do without."""
    asked = []

    def run(function, requests, purpose, variables):
        asked.append(requests[0][0]["compiled"])
        if requests[0][0]["compiled"]:
            raise RuntimeError("the process that plans runs was ended by SIGSEGV:\n@ 0x7f46")
        return [json.loads(json.dumps(kinds.fits(x))) for x in requests]

    monkeypatch.setattr(api, "subprocesses", SimpleNamespace(run=run))
    monkeypatch.setattr(api.tpu_compiler, "check_installed", lambda: None)
    plan = spjax.plan(STUDY, "v5e:2x2", {"SIZES": ["pocket_50k"], "SEEDS": [0]})
    assert asked == [True, False] * len(plan.kinds) and plan.fits
    assert not plan.table["compiled"].any()
    assert (
        "libtpu has crashed while it compiled (the process that plans runs was ended by SIGSEGV)"
        in (plan.text)
    )
    with pytest.raises(RuntimeError, match="SIGSEGV"):
        spjax.plan(STUDY, "gpu:h100:2", {"SIZES": ["pocket_50k"], "SEEDS": [0]})


def test_uncut_evaluations_are_covered_when_their_texts_are_known(
    in_process, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_cli, "_WORKERS", 1)
    bindings = {"SIZES": ["pocket_200k"], "TASKS": ["pocket_cb"], "SEEDS": [0]}
    bindings["Run.eval_truncation"] = False
    plan = spjax.plan(STUDY, "gpu:h100:1", bindings)
    assert plan.table["evaluation_tokens"].isna().all()
    assert plan.text.count("not covered") == len(plan.kinds) + 1
    command = re.search("`spjax (cache [^`]*)`", plan.text)[1]
    assert main.main(shlex.split(command)) == 0
    covered = spjax.plan(STUDY, "gpu:h100:1", bindings)
    assert "not covered" not in covered.text and "tokens, uncut" in covered.text
    longest = cache.longest(
        ("pocket_cb", split, cache.UNCUT, "pocket") for split in ("validation", "test")
    )
    assert set(covered.table["evaluation_tokens"]) == {longest["inputs"]}


def test_libtpu_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    assert main.main(["plan", STUDY, "--topology=v5e:4x4"]) == 2
    assert "planning for TPUs needs the package libtpu. Install the extra 'tpu'" in (
        capsys.readouterr().err
    )


def test_a_study_of_an_absent_model_names_it(capsys, tmp_path):
    absent = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path / 'nothing'}"
    sizes = ["--gin.SIZES=['auto']", absent]
    assert main.main(["plan", STUDY, "--topology=gpu:h100:1", *sizes]) == 2
    assert f"{tmp_path / 'nothing'}" in capsys.readouterr().err
    assert main.main(["plan", STUDY, "--topology=cpu:1", "--gin.SIZES=['t5_99']"]) == 2
    assert "unknown model size 't5_99'" in capsys.readouterr().err


def test_the_compilers_complaint_is_read():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (18.82G) exceeds available HBM (15.75G)."
    )
    assert tpu_compiler._needed(message) == pytest.approx(18.82 * 2**30)
    assert tpu_compiler._needed("RESOURCE_EXHAUSTED: no numbers") == 0


class Program:
    """Stands in for a lowered program."""

    def __init__(self, text, error=""):
        self.text, self.error, self.compilations = text, error, 0

    def as_text(self):
        return self.text

    def compile(self):
        self.compilations += 1
        if self.error:
            raise jax.errors.JaxRuntimeError(self.error)
        return self

    def memory_analysis(self):
        sizes = {"temp": 70, "output": 50, "alias": 20, "generated_code": 9}
        return SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(tpu_compiler, "devices", lambda topology: jax.devices())
    monkeypatch.setattr(tpu_compiler.importlib.metadata, "version", lambda name: "0.0.42")
    return lambda name="v5e:2x2": tpu_compiler.Compiler(topologies.parse(name))


def test_a_program_is_compiled_once_for_a_topology(compiler, tmp_path):
    program = Program("a")
    need = compiler().compiled(program)
    assert (need["fits"], need["temporaries"], need["program"]) == (True, 100, 9)
    assert compiler().compiled(Program("a")) == need and program.compilations == 1
    compiler("v5e:2x4").compiled(program)
    compiler().compiled(other := Program("b"))
    assert program.compilations == 2 and other.compilations == 1
    for path in (tmp_path / "compiled_for_tpu").iterdir():
        path.write_text("{")
    assert compiler().compiled(again := Program("a")) | {"seconds": 0} == need | {"seconds": 0}
    assert again.compilations == 1


def test_a_program_that_does_not_fit_is_no_error_and_another_error_is(compiler):
    full = Program("full", "RESOURCE_EXHAUSTED: HLO temporaries (2.00G) exceeds available")
    need = compiler().compiled(full)
    assert not need["fits"] and need["temporaries"] == 2 * 2**30
    with pytest.raises(ValueError, match="libtpu cannot compile a program: UNIMPLEMENTED: an op"):
        compiler().compiled(Program("broken", "UNIMPLEMENTED: an operation"))


def test_the_compiler_is_given_the_programs_that_need_most(compiler, monkeypatch, for_tpu):
    lowered = []
    stand_in = compiler()
    need = {"fits": True, "temporaries": 5, "program": 1, "seconds": 2.0}
    monkeypatch.setattr(stand_in, "compiled", lambda program: lowered.append(program) or need)
    monkeypatch.setattr(stand_in, "mesh", lambda setting: None)  # one of no devices
    names = ("gradients", "update")
    for name in names:
        monkeypatch.setattr(lowering.StepShapes, name, lambda step, name=name: name)
    monkeypatch.setattr(lowering, "answers", lambda *args: ("answers", *args[3:]))
    small = {"model": "t5_1_1_small", "eval_batch_size": 1}
    for method in (PromptTuning(length=100), FullFineTuning()):
        run = large(method=method, **small)
        searched(run, "v5e:2x2", compile=stand_in).fit(Setting(4))
    assert lowered == ["gradients", "gradients", "update"]
    lowered.clear()
    run = large(**{**small, "eval_batch_size": 512})
    fit = searched(run, "v5e:2x2", compile=stand_in).fit(Setting(4, remat=True))
    assert lowered == ["gradients", ("answers", 512, 640, 16)]
    assert fit.compiled and fit.memory.activations == 5
    search_of_uncut = searched(run, "v5e:2x2", compile=stand_in, evaluated=(1000, 20))
    search_of_uncut.fit(Setting(4, remat=True))
    assert lowered[-1] == ("answers", 512, 1100, 20)


def test_a_slice_that_libtpu_does_not_know(monkeypatch):
    monkeypatch.setattr(extras, "require", lambda *args: None)

    def refuse(name, platform, **options):
        assert (name, platform) == ("v4:3x5", "tpu")
        assert options == {"chips_per_host_bounds": (3, 5, 1), "chip_config_name": "megacore"}
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: not divisible\nmore")

    monkeypatch.setattr(tpu_compiler.jax_topologies, "get_topology_desc", refuse)
    with pytest.raises(ValueError, match=r"no slice 'v4:3x5': INVALID_ARGUMENT: not divisible\. "):
        tpu_compiler.devices(topologies.parse("v4:3x5"))
