"""A Slurm cluster of one machine: munged, slurmctld and slurmd, with all files in one folder."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

CORES = 3  # that Slurm is told of
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""


@contextlib.contextmanager
def cluster(folder: Path):
    """Runs the cluster; yields the variables of the environment with which commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    host, user = socket.gethostname().split(".")[0], os.environ.get("USER") or "root"
    text = CONFIGURATION.format(host=host, user=user, folder=folder, ports=ports, cores=CORES)
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
    munge |= {"seed-file": "seed"}
    flags = [f"--{flag}={folder}/munge.{end}" for flag, end in munge.items()]
    commands = [
        ["munged", "--foreground", "--force", *flags],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", host],
    ]
    processes = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.out", "wb") as output:
                processes.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **variables},
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )
            time.sleep(1)
        _wait_until_idle(folder, variables)
        yield variables
    finally:
        subprocess.run(["scancel", f"--user={user}"], env={**os.environ, **variables}, timeout=30)
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def without_delays():
    """Starts jobs that were put back into the queue at once, where Slurm waits two minutes."""
    over = threading.Event()

    def release():
        while not over.wait(1):
            waiting = ["squeue", "--noheader", "--states=PENDING", "--format=%i %r"]
            output = subprocess.run(waiting, capture_output=True, text=True).stdout
            for job, _, reason in (line.partition(" ") for line in output.splitlines()):
                if reason == "BeginTime":
                    change = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                    subprocess.run(change, capture_output=True)

    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait_until_idle(folder, variables):
    end = time.monotonic() + 60
    while True:
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )
        if state.stdout.strip() == "idle":
            return
        if time.monotonic() > end:
            logs = [path.read_text()[-1500:] for path in folder.glob("*.[lo][ou][gt]")]
            raise RuntimeError("\n".join([state.stdout, state.stderr, *logs]))
        time.sleep(0.5)
