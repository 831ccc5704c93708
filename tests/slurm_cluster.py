"""A real SLURM of one node for the tests: munged, slurmctld and slurmd, with ports of their own.

Needs root and the Debian packages slurm-wlm and munge. No systemd, no cgroups, no accounting database.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=sparse_rl_tests
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={root}/socket/munge
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
JobRequeue={requeue}
MaxArraySize={most}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP PriorityTier=10 DefMemPerCPU=1000
PartitionName=low Nodes={node} MaxTime=INFINITE State=UP PriorityTier=1 DefMemPerCPU=1000 GraceTime=60
"""


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


def _start(root: Path, node: str, requeue: int, most: int) -> None:
    for folder in ("state", "spool", "socket", "key"):
        (root / folder).mkdir(mode=0o700 if folder == "key" else 0o755)
    key = root / "key" / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (root / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
    options = {"requeue": requeue, "most": most}
    text = CONFIGURATION.format(node=node, root=root, ports=_free_ports(2), **options)
    (root / "slurm.conf").write_text(text)
    munge = ("pid-file", "log-file", "seed-file")
    files = [
        f"--{name}={root}/{'munged.pid' if name == 'pid-file' else 'key/' + name}" for name in munge
    ]
    for command in (
        ["munged", f"--key-file={key}", f"--socket={root}/socket/munge", *files],
        ["slurmctld", "-f", str(root / "slurm.conf"), "-c"],
        ["slurmd", "-f", str(root / "slurm.conf"), "-N", node],
    ):
        subprocess.run(command, check=True, capture_output=True)


def _wait_until_idle(root: Path) -> None:
    state = ""
    for _ in range(150):
        answer = subprocess.run(
            ["sinfo", "-h", "-p", "main", "-o", "%T"], capture_output=True, text=True
        )
        state = answer.stdout.strip()
        if state.startswith("idle"):
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text()[-2000:] for path in root.glob("*.log"))
    raise RuntimeError(f"SLURM did not come up: {state}\n{logs}")


def _stop(root: Path) -> None:
    subprocess.run(["scancel", "--me", "--signal=KILL", "--full"], capture_output=True)
    subprocess.run(["scancel", "--me"], capture_output=True)
    for daemon in reversed(DAEMONS):
        pid_file = root / f"{daemon}.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text())
            with_proc = Path(f"/proc/{pid}")
            if with_proc.exists():
                os.kill(pid, 15)
            for _ in range(50):
                if not with_proc.exists():
                    break
                time.sleep(0.1)


@contextmanager
def cluster(root: Path, requeue: int = 1, most: int = 1001) -> Iterator[Path]:
    """Start the daemons in an empty folder, and stop them.

    Args:
        root: the folder.
        requeue: whether jobs may be queued again.
        most: MaxArraySize.
    """
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"needs root and SLURM (Debian: slurm-wlm, munge); missing: {missing}")
    for folder in (root, *root.parents[:-2]):
        folder.chmod(0o755)  # munge wants the way to its socket to be searchable
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(root / "slurm.conf"))
        try:
            _start(root, socket.gethostname().split(".")[0], requeue, most)
            _wait_until_idle(root)
            yield root
        finally:
            _stop(root)
