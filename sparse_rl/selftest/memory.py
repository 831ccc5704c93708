"""Is memory what was planned, and where is a pack cut?

Planned is what decides how many runs share a device. A fifth of the memory is left free, so a pack that
is cut there goes over the edge from 1.25 times the plan on: more than that is wrong, but for what a
process has once, however many runs are in it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Line, Lines, doing, row
from sparse_rl.settings.run import run_config

MODULE = "sparse_rl.selftest.memory"
MOST = 1.25
"""Of measured over planned: 1 / 0.8."""
ROOM = 64 << 20
"""Of a process, once: stacks and arenas of threads, workspaces of libraries. Two runs of width 64 on a
CPU, planned at 5 MB, took 21."""
STORAGES = {"masked": "unstructured", "compact": "unstructured", "block": "block"}
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def settings(storage: str, width: int, sparsity: float, seed: int) -> dict[str, Any]:
    """A run of SAC whose memory is that of its networks."""
    return {
        "agent": {"random_interactions": 16, "replay_size": 5000},
        "env": {"source": "gymnax", "task": "Pendulum-v1"},
        "pruning": {"pattern": STORAGES[storage], "storage": storage},
        "width": width,
        "sparsity": sparsity,
        "seed": seed,
        "env_steps": 2000,
        "log_every": 20,
        "eval_every": 2000,
    }


def peak_since(begin: int) -> int:
    """Bytes that this process held at most since :func:`forget`, beside those at its begin."""
    told = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(told["VmHWM"].split()[0]) * 1024 - begin


def forget() -> int:
    """From here on the peak is a new one: bytes that are held now."""
    FORGET.write_text("5")
    told = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(told["VmRSS"].split()[0]) * 1024


def measured(asked: dict[str, Any], runs: int) -> Line:
    """In a process of its own: a pack of so many runs trained for two chunks."""
    import jax
    import numpy as np

    from sparse_rl.runs import available_bytes, compile_programs, prepare_pack, runs_that_fit, stack

    configs = [run_config({**asked, "seed": seed}) for seed in range(runs)]
    loop, prepared = prepare_pack(configs)
    inputs = [run.inputs for run in prepared]
    programs = compile_programs(loop, inputs, "vmap")  # all at once, as where a pack is one program
    on_device = jax.devices()[0].memory_stats() is not None
    begin = 0 if on_device else forget()
    state = programs.init(stack(inputs))
    for chunk in range(2):
        state, _ = programs.chunk(np.int32(20 * chunk), state)
    jax.block_until_ready(state)
    stats = jax.devices()[0].memory_stats()
    peak = int(stats["peak_bytes_in_use"]) if stats else peak_since(begin)
    return {
        "planned": runs * prepared[0].costs.memory_bytes,
        "measured": peak,
        "of": "the device's peak" if on_device else "the process's peak, less what it held before",
        "fit": runs_that_fit(prepared[0]),
        "bytes": available_bytes(),
    }


def told(storage: str, width: int, sparsity: float, runs: int, found: Line) -> Line:
    """A row."""
    share = found["measured"] / found["planned"]
    over = found["measured"] > MOST * found["planned"] + ROOM
    wrong = f"{storage}, width {width}: {share:.2f} times the planned memory" if over else None
    return {
        "storage": storage,
        "width": width,
        "sparsity": sparsity,
        "runs": runs,
        "planned MB": found["planned"] / 1e6,
        "measured MB": found["measured"] / 1e6,
        "measured / planned": share,
        "a pack is cut at": found["fit"],
        "of": found["of"],
        **({WRONG: wrong} if wrong else {}),
    }


def cases(quick: bool) -> list[tuple[str, int, float, int]]:
    """Storage, width, sparsity, runs."""
    if quick:
        return [("block", 512, 0.9, 2)]
    return [
        ("masked", 1024, 0.0, 1),
        ("masked", 1024, 0.0, 16),
        ("compact", 1024, 0.9, 16),
        ("block", 1024, 0.9, 16),
        ("block", 1024, 0.9, 64),
    ]


def lines_of(asked: Asked) -> Lines:
    """A row per pack."""
    if asked.device == "cpu" and not FORGET.exists():
        raise OSError("this system does not tell what a process held at most since a moment")
    for storage, width, sparsity, runs in cases(asked.quick):
        yield doing(f"{storage}, width {width}, {runs} runs")
        given = json.dumps([settings(storage, width, sparsity, 0), runs])
        ended = subprocess.run([sys.executable, "-m", MODULE, given], stdout=subprocess.PIPE, check=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        yield row(**told(storage, width, sparsity, runs, found))


if __name__ == "__main__":
    print(json.dumps(measured(*json.loads(sys.argv[1]))))
