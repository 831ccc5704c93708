"""What a run takes while it trains: the closed form of the plan, XLA's analysis of the chunk, and what
the process held (docs/scale.md).

    python benchmarks/memory.py
"""

import gc
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sparse_rl.kernels.compilation import give_back_memory
from sparse_rl.runs.memory import taken_by
from sparse_rl.runs.pack import compile_programs, prepare_pack
from sparse_rl.settings.run import run_config

STATUS = Path("/proc/self/status")
FORGET_PEAK = "5"
"""Written to ``/proc/self/clear_refs``, the peak begins anew (Linux)."""
STORAGES = {"masked": "unstructured", "compact": "unstructured", "block": "block"}
SIMBA, MLP = {"network": "simba"}, {"network": "mlp", "actor_width_ratio": 0.25}
REPLAY = {"batch_size": 256, "replay_size": 20_000, "random_interactions": 10}
CELLS: dict[str, tuple[int, dict[str, Any], tuple[str, str]]] = {
    "sac": (1024, {"name": "sac", **MLP, **REPLAY}, ("gymnax", "Pendulum-v1")),
    "sac, SimBa": (512, {"name": "sac", **SIMBA, **REPLAY}, ("gymnax", "Pendulum-v1")),
    "ppo": (1024, {"name": "ppo", "num_envs": 16, "num_steps": 16, "minibatches": 1, "epochs": 1},
            ("gymnax", "Pendulum-v1")),
    "dqn": (1024, {"name": "dqn", "num_envs": 16, "num_steps": 16}, ("gymnax", "CartPole-v1")),
}  # fmt: skip
"""Name → width, agent, environment."""


def held(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since the peak was forgotten."""
    (line,) = (text for text in STATUS.read_text().splitlines() if text.startswith(field))
    return int(line.split()[1]) << 10


def measured(programs: Any, inputs: Any) -> int:
    """Bytes that a run's state and its second chunk took of this process."""
    gc.collect()
    give_back_memory()
    before = held("VmRSS")
    state, _ = jax.block_until_ready(programs.chunk(np.int32(0), programs.init(inputs)))
    give_back_memory()
    Path("/proc/self/clear_refs").write_text(FORGET_PEAK)
    state, _ = jax.block_until_ready(programs.chunk(np.int32(0), state))
    return held("VmHWM") - before


def main() -> None:
    print(f"{'agent':12}{'storage':>9}{'width':>7}{'closed form':>13}{'analysis':>10}{'held':>9}  MB")
    for name, (width, agent, (source, task)) in CELLS.items():
        for storage, pattern in STORAGES.items():
            config = run_config(
                {
                    "width": width, "sparsity": 0.9, "agent": agent, "env_steps": 256, "log_every": 256,
                    "eval_every": 256, "diagnostics": {"max_samples": 256},
                    "env": {"source": source, "task": task, "eval_episodes": 1},
                    "pruning": {"pattern": pattern, "storage": storage},
                }
            )  # fmt: skip
            loop, (run,) = prepare_pack([config])
            programs = compile_programs(loop, [run.inputs], "map")
            analysis = taken_by(programs.chunk)
            sizes = run.costs.memory_bytes, analysis or 0, measured(programs, run.inputs)
            told = "".join(
                f"{size / 1e6:>{pad}.1f}" for size, pad in zip(sizes, (13, 10, 9), strict=True)
            )
            print(f"{name:12}{storage:>9}{width:>7}{told}", flush=True)
            del programs
            jax.clear_caches()


if __name__ == "__main__":
    main()
