"""A Slurm of one node on this machine, from Debian's packages slurm-wlm and munge: for tests, without cgroups.

    python tests/slurm_node.py squeue          # run a command in it
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}({address})
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=1
ReturnToService=2
KillWait=2
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
NodeName={host} NodeAddr={address} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Programs that are not installed."""
    return [name for name in PROGRAMS if _path(name) is None]


def _path(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(cpus=2, memory=4_000):
    """Start the node; inside the block the commands of Slurm find it by SLURM_CONF.

    Raises
    ------
    RuntimeError
        It does not come up within half a minute.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(
        folder=folder, host=host, address="127.0.0.1", cpus=cpus, memory=memory,
        user=subprocess.check_output(["id", "-un"], text=True).strip(), controller=_free_port(), node=_free_port()))
    before, daemons = os.environ.get("SLURM_CONF"), []
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        munge = [f"--{name}={folder}/munge.{end}" for name, end in (
            ("socket", "socket"), ("key-file", "key"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]
        for command in (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
            with open(folder / f"{command[0]}.out", "w") as out:
                daemons.append(subprocess.Popen([_path(command[0]), *command[1:]], stdout=out, stderr=out))
            time.sleep(0.5)
        _wait_for_node(folder)
        yield folder
    finally:
        subprocess.run([_path("scancel"), "--user", str(os.getuid())], capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        os.environ.pop("SLURM_CONF")
        os.environ.update({} if before is None else {"SLURM_CONF": before})
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_node(folder):
    for _ in range(60):
        found = subprocess.run([_path("sinfo"), "-h", "-o", "%t"], capture_output=True, text=True)
        if found.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.out")) + sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm did not come up: {found.stdout}{found.stderr}\n{logs}")


if __name__ == "__main__":
    with running():
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"]).returncode)
