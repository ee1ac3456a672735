"""A Slurm cluster on one machine: munged, slurmctld and a slurmd for each of the two machines that
Slurm is told of, with all files in one folder."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

HOST = socket.gethostname().split(".")[0]
# Cores that Slurm is told of. Processes that train together meet at the first name, so it is real.
CORES = {HOST: 2, f"{HOST}-other": 1}
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} "
    "RealMemory=8000 State=UNKNOWN"
)
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""


@contextlib.contextmanager
def cluster(folder: Path):
    """Runs the cluster; yields the variables of the environment with which commands find it."""
    for name in ("state", *(f"spool.{name}" for name in CORES)):
        (folder / name).mkdir()
    folder.chmod(0o755)
    with contextlib.ExitStack() as free:
        sockets = [free.enter_context(socket.socket()) for _ in range(1 + len(CORES))]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        port, *ports = [one.getsockname()[1] for one in sockets]
    user = os.environ.get("USER") or "root"
    nodes = "\n".join(
        NODE.format(name=name, host=HOST, port=port, cores=cores)
        for (name, cores), port in zip(CORES.items(), ports)
    )
    text = CONFIGURATION.format(host=HOST, user=user, folder=folder, port=port, nodes=nodes)
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
        *(["slurmd", "-D", "-N", name] for name in CORES),
    ]
    processes = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.{len(processes)}.out", "wb") as output:
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
    """Starts jobs that were put back into the queue after a second, where Slurm waits two minutes.

    In the second in which it ends a job Slurm refuses to start it ("Job credential revoked").
    """
    over = threading.Event()

    def release():
        before = set()
        while not over.wait(1):
            waiting = ["squeue", "--noheader", "--states=PENDING", "--format=%i %r"]
            output = subprocess.run(waiting, capture_output=True, text=True).stdout
            lines = (line.partition(" ") for line in output.splitlines())
            jobs = {job for job, _, reason in lines if reason == "BeginTime"}
            for job in jobs & before:
                change = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                subprocess.run(change, capture_output=True)
            before = jobs

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
