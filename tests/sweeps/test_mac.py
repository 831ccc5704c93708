"""A sweep where nothing is that only Linux has. No Mac was at hand: this is what stands for one."""

import os
import subprocess
import sys
from pathlib import Path

TAKEN_AWAY = """
import ctypes, os, pathlib, platform

for name in ("sched_getaffinity", "sched_setaffinity", "process_cpu_count"):
    if hasattr(os, name):
        delattr(os, name)

LINUX = ("/proc", "/dev/shm", "/sys")
find, load = pathlib.Path.stat, ctypes.CDLL.__getattr__

def stat(self, **options):
    if str(self).startswith(LINUX):
        raise FileNotFoundError(str(self))
    return find(self, **options)

def symbol(self, name):
    if name == "malloc_trim":
        raise AttributeError(name)
    return load(self, name)

pathlib.Path.stat, ctypes.CDLL.__getattr__ = stat, symbol
pathlib.Path.exists = lambda self, **_: os.path.exists(self) and not str(self).startswith(LINUX)
pathlib.Path.is_dir = lambda self, **_: os.path.isdir(self) and not str(self).startswith(LINUX)
os.cpu_count = lambda: 2
"""


GRID = (
    "agent=dqn", "agent.num_envs=10", "env=probe/cue", "env.delay=3", "width=8", "sparsity=0.5",
    "seed=0,1", "env_steps=200", "log_every=100", "eval_every=100", "env.eval_episodes=2",
)  # fmt: skip


def test_a_sweep_plans_and_trains_in_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TAKEN_AWAY)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-m", "sparse_rl.sweep", *GRID, "hydra/launcher=processes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "2 tasks, 2 workers" in result.stdout  # one to a core
    assert "2 done" in result.stdout
