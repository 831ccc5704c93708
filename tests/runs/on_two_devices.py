"""``python on_two_devices.py FOLDER``: packs on the two devices of this process, and what was seen."""

import hashlib
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import conftest
import jax
from compilations import PROGRAMS, count_compilations

from sparse_rl.kernels import native
from sparse_rl.records import results
from sparse_rl.runs import pack
from sparse_rl.runs.pack import cut, prepare_pack, train_pack
from sparse_rl.settings.run import RunConfig, run_config

AGENT = conftest.SMALL["paac"] | {"name": "paac", "network": "mlp", "num_envs": 8, "num_steps": 8}
BLOCKS = {"pattern": "block", "storage": "block"}


def config_of(seed: int, **agent: Any) -> RunConfig:
    return run_config(
        {
            "agent": AGENT | agent, "pruning": BLOCKS, "width": 32, "sparsity": 0.5, "seed": seed,
            "env": {"source": "gymnax", "task": "Pendulum-v1", "eval_episodes": 1},
            "env_steps": 384, "log_every": 128, "eval_every": 384,
        }
    )  # fmt: skip


CONFIGS = [config_of(seed) for seed in (0, 1, 2)]
DIVERGES = config_of(0, learning_rate=1e30)


def digests(study: Path) -> dict[str, str]:
    """Seed → what its rows and parameters hash to."""
    found = {}
    for config in CONFIGS:
        files = [study / config.run_id / name for name in (results.METRICS, results.PARAMETERS)]
        if all(file.exists() for file in files):
            read = b"".join(file.read_bytes() for file in files)
            found[str(config.seed)] = hashlib.sha256(read).hexdigest()
    return found


class Watched:
    """Programs of a pack, the devices of what they make, and whether a chunk left what it was given."""

    def __init__(self) -> None:
        self.places: dict[int, list[int]] = {}
        self.donated: list[bool] = []
        self._lock = threading.Lock()
        self._compile = pack.compile_programs

    def __call__(self, loop: Any, inputs: Any, layout: Any) -> Any:
        made = self._compile(loop, inputs, layout)
        seeds = [int(each.seed) for each in inputs]
        first = [True]

        def chunk(number: Any, state: Any) -> Any:
            given = jax.tree.leaves(loop.agent.parameters(state.agent))
            after, row = made.chunk(number, state)
            if first:
                first.clear()
                (device,) = jax.tree.leaves(after.agent)[0].devices()
                with self._lock:
                    self.places[device.id] = seeds
                    self.donated.append(all(leaf.is_deleted() for leaf in given))
            return after, row

        return made._replace(chunk=chunk)


@contextmanager
def watching() -> Iterator[Watched]:
    """Inside, packs are watched."""
    watched, before = Watched(), pack.compile_programs
    pack.compile_programs = watched
    try:
        yield watched
    finally:
        pack.compile_programs = before


def trained(study: Path, seeds: list[int], until: int | None = None, **options: Any) -> None:
    """Train runs one by one, asking them to stop when that of seed 1 comes to a log point."""
    stop = threading.Event()

    def watch(progress: Any) -> None:
        if until is not None and progress[:2] == (CONFIGS[1].run_id, until) and progress.updates:
            stop.set()

    runs = prepare_pack([CONFIGS[seed] for seed in seeds])
    train_pack(runs, study, stop=stop, watch=watch, layout="map", **options)


def main(folder: Path) -> None:
    for module in ("actor_critic", "choosing", "drq", "q_learner", "streaming"):
        vars(sys.modules[f"sparse_rl.agents.{module}"])["health"] = conftest._nothing_measured
    told: dict[str, Any] = {"kernels": native.load()[0], "compiler": bool(shutil.which("g++"))}

    for part in cut(prepare_pack(CONFIGS), 2):
        train_pack(part, folder / "cut", layout="vmap")
    told["cut"] = digests(folder / "cut")

    with watching() as watched, count_compilations() as compiled:
        train_pack(prepare_pack(CONFIGS), folder / "shared", layout="vmap", devices=2)
    told["compiled"] = Counter(name for name in compiled if name in PROGRAMS)
    told["places"], told["donated"] = watched.places, watched.donated
    told["shared"] = digests(folder / "shared")

    bad = prepare_pack([DIVERGES, *CONFIGS[1:]])
    told["statuses"] = list(train_pack(bad, folder / "bad", layout="vmap", devices=2).values())
    told["beside a diverged one"] = digests(folder / "bad")["2"]

    train_pack(prepare_pack(CONFIGS), folder / "one", layout="map")
    told["mapped on one"] = digests(folder / "one")
    with watching() as watched:
        train_pack(prepare_pack(CONFIGS), folder / "two", layout="map", devices=2)
    told["mapped to"] = sorted(watched.places)
    told["mapped on two"] = digests(folder / "two")
    trained(folder / "moved", [1], until=128)
    trained(folder / "moved", [0, 1], until=256, devices=2)
    trained(folder / "moved", [0, 1, 2])
    record = results.read_run(folder / "moved" / CONFIGS[1].run_id) or {}
    told["begun at"] = [attempt["from_env_steps"] for attempt in record["attempts"]]
    told["moved"] = digests(folder / "moved")
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
