"""What is recorded of a run, every number predicted by hand from its configuration."""

import json
import math
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from conftest import SMALL, MakeConfig

from sparse_rl.records import checkpoints, results
from sparse_rl.runs import lockstep as module
from sparse_rl.runs import pack as packing
from sparse_rl.runs.lockstep import Lockstep, Policy, Programs, Progress, Run
from sparse_rl.runs.pack import halves, prepare_pack, workers
from sparse_rl.runs.probing import row_of
from sparse_rl.runs.recorder import Recorder, identity
from sparse_rl.settings.run import RunConfig, run_config

pytestmark = pytest.mark.usefixtures("programs_once")


class Network(NamedTuple):
    """One network, counted by hand."""

    kernels: list[int]
    """Weights that may be pruned, per layer."""
    rest: int
    """Biases, norms, deviations."""
    kept: float
    """Share of the kernels' weights that survives; all layers are divisible by it."""
    passes: int
    traffic: int
    uses: tuple[int, ...] = ()
    """How often each kernel is applied to a sample, where that is not once."""

    @property
    def total(self) -> int:
        return sum(self.kernels) + self.rest

    @property
    def nonzero(self) -> int:
        return round(sum(self.kernels) * self.kept) + self.rest

    @property
    def products(self) -> int:
        """Multiplications of a pass over one sample, dense."""
        return sum(
            k * u for k, u in zip(self.kernels, self.uses or [1] * len(self.kernels), strict=True)
        )

    @property
    def masks(self) -> int:
        """Bytes: one for each weight of a network that is pruned."""
        return sum(self.kernels) if self.kept < 1 else 0


class Expected(NamedTuple):
    """A run, counted by hand."""

    networks: dict[str, Network]
    batch: int
    updates: int
    stored: int
    """Numbers of 4 bytes in the agent's state: parameters, moments, targets, counts, rates."""
    replay: int = 0
    """Bytes."""


def critic(inputs: int, out: int = 1) -> list[int]:
    """Kernels of an MLP of 16 units."""
    return [inputs * 16, 16 * 16, 16 * out]


EXPECTED = {
    # Pendulum: 3 numbers, 1 action. 400 frames in 100 interactions of 2 environments of 2 frames: 10
    # random, then 90 · 1.5 updates. Actor of 8 units with two heads, two critics; targets, Adam's
    # moments; log α with its moments, 3 counts, the learning rate.
    "sac": Expected(
        {
            "actor": Network([3 * 8, 8 * 8, 8, 8], 8 + 8 + 1 + 1, 0.5, 4, 8),
            "critic": Network(2 * critic(3 + 1), 2 * (16 + 16 + 1), 0.25, 6, 8 + 3),
        },
        batch=32, updates=135, stored=3 * 122 + 4 * 738 + 3 + 3 + 1,
        replay=200 * (4 * (3 + 1 + 1 + 3) + 1) + 8,
    ),
    "ddpg": Expected(
        {
            "actor": Network([3 * 8, 8 * 8, 8], 8 + 8 + 1, 0.5, 4, 8),
            "critic": Network(critic(3 + 1), 16 + 16 + 1, 0.25, 6, 8 + 3),
        },
        batch=32, updates=135, stored=3 * 113 + 4 * 369 + 2 + 1,
        replay=200 * (4 * (3 + 1 + 1 + 3) + 1) + 8,
    ),
    # Two pictures of 16 × 16, read 3 × 3 at a time with a step of two: at 7 × 7 places, 3 × 3 and one.
    # An episode is one interaction, of two frames: two pictures for every transition.
    "drq": Expected(
        {
            "actor": Network([4 * 8, 8 * 16, 16 * 16, 16], 3 * 8 + 16 + 16 + 1, 0.5, 4, 8),
            "critic": Network(
                [4 * 8, *[9 * 16, 16 * 16, 16] * 2], 3 * 8 + 2 * (16 + 16 + 1), 0.25, 6, 8 + 3
            ),
            "encoder": Network([18 * 4, 36 * 4, 36 * 4], 3 * 4, 1.0, 4, 8, (49, 9, 1)),
        },
        batch=32, updates=135, stored=3 * (489 + 954 + 372) + 954 + 3 + 1 + 1,
        replay=2 * 200 * (256 + 4 + 4 + 1 + 1) + 2 * 8,
    ),
    # 5 actors × 10 interactions × 2 frames a rollout, 4 of them: 3 epochs of 2 minibatches of 25.
    "ppo": Expected(
        {
            "actor": Network(critic(3), 16 + 16 + 1 + 1, 0.5, 3, 8),
            "critic": Network(critic(3), 16 + 16 + 1, 0.25, 3, 8),
        },
        batch=25, updates=4 * 3 * 2, stored=3 * (354 + 353) + 1 + 1,
    ),
    # CartPole: 4 numbers, 2 choices. 10 actors × 5 interactions × 2 frames a rollout: 4 updates.
    "paac": Expected(
        {
            "actor": Network(critic(4, 2), 16 + 16 + 2, 0.5, 3, 6),
            "critic": Network(critic(4), 16 + 16 + 1, 0.25, 3, 6),
        },
        batch=50, updates=4, stored=2 * (386 + 369) + 1,
    ),
    "dqn": Expected(
        {"critic": Network(critic(4, 2), 16 + 16 + 2, 0.25, 3, 8 + 3)},
        batch=50, updates=4, stored=4 * 386 + 3,
    ),
    # Pendulum and the time: one update on each of 200 interactions; a trace for every parameter, what of
    # it goes on, and the rate.
    "stream_ac": Expected(
        {
            "actor": Network([4 * 16, 16 * 16, 16, 16], 16 + 16 + 1 + 1, 0.5, 3, 5),
            "critic": Network(critic(4), 16 + 16 + 1, 0.25, 4, 5),
        },
        batch=1, updates=200, stored=2 * (386 + 369) + 1 + 1,
    ),
    # Three masses: 3 forces of 6 numbers; an update is two rollouts, each one frame.
    "azopg": Expected({"actor": Network([6 * 3], 0, 0.5, 2, 2)}, batch=1, updates=200, stored=18),
}  # fmt: skip


def config_of(name: str, **changes: Any) -> RunConfig:
    agent: dict[str, Any] = {"name": name, **SMALL.get(name, {})}
    if name in ("sac", "ddpg", "drq"):
        agent |= {"num_envs": 2, "updates_per_interaction": 1.5}
    if name in ("sac", "ddpg"):
        agent |= {"network": "mlp", "actor_width_ratio": 0.5, "clipped_double_q": name == "sac"}
    source, task = {"drq": ("probe", "picture"), "azopg": ("lqr", "chain")}.get(name, ("gymnax", ""))
    task = task or ("CartPole-v1" if name in ("paac", "dqn") else "Pendulum-v1")
    env = {
        "source": source,
        "task": task,
        "eval_episodes": 3,
        "action_repeat": 1 if source == "lqr" else 2,
    }
    pruning = {"distribution": "uniform", "actor_sparsity": 0.5}
    sparse = {"sparsity": 0.5} if name == "azopg" else {"sparsity": 0.75}
    pruning |= {} if name != "dqn" else {"actor_sparsity": None}
    pruning |= {"storage": "masked"} if name == "stream_ac" else {}
    data = {
        "agent": agent,
        "env": env,
        "pruning": pruning,
        "width": 3 if name == "azopg" else 16,
        **sparse,
    }
    return run_config(data | {"env_steps": 400, "log_every": 200, "eval_every": 400} | changes)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_number_of_a_record_is_what_it_is_by_hand(name: str) -> None:
    config, by_hand = config_of(name, seed=3, mask_seed=4), EXPECTED[name]
    _, (run,) = prepare_pack([config])
    found, parts = identity(config, run.costs), by_hand.networks
    for part, network in parts.items():
        assert found.pop(f"parameters_total/{part}") == network.total
        assert found.pop(f"parameters_nonzero/{part}") == network.nonzero
    dense = [2 * n.products * n.passes * by_hand.batch for n in parts.values()]
    state = 4 * by_hand.stored + sum(n.masks for n in parts.values())
    agent: Any = config.agent
    expected = {
        "run_id": config.run_id, "agent": name, "network": config.agent.network,
        "env": config.env.name, "width": config.width, "sparsity": config.sparsity,
        "actor_sparsity": 0.75 if name == "dqn" else 0.5,
        "critic_sparsity": config.sparsity, "pattern": "unstructured", "method": "static",
        "distribution": "uniform", "storage": "masked", "products": "float32",
        "learning_rate": {"paac": 0.007, "dqn": 3e-3, "azopg": 5e-4, "stream_ac": 1.0}.get(name, 1e-3),
        "num_envs": {"ppo": 5, "paac": 10, "dqn": 10, "stream_ac": 1}.get(name, 2),
        "seed": 3, "mask_seed": 4,
        **{key: getattr(agent, key) for key in agent.RECORDED},
        "parameters_total": sum(n.total for n in parts.values()),
        "parameters_nonzero": sum(n.nonzero for n in parts.values()),
        "flops_per_update_dense": sum(dense),
        "flops_per_update": sum(
            round(f * n.kept) for f, n in zip(dense, parts.values(), strict=True)
        ),
        "bytes_per_update": sum(4 * n.total * (n.passes + n.traffic) for n in parts.values()),
        "state_bytes": state, "replay_bytes": by_hand.replay,
    }  # fmt: skip
    assert found == expected
    assert run.costs.updates == by_hand.updates
    assert (int(run.inputs.seed), int(run.inputs.mask_seed)) == (3, 4)
    assert float(run.inputs.learning_rate) == pytest.approx(config.agent.learning_rate, rel=1e-6)
    assert expected["flops_per_update"] < expected["flops_per_update_dense"]


def test_memory_by_hand() -> None:
    """State and replay, a quarter of the state for gradients, and three arrays of 256 probe samples and
    a batch of 32, as wide as the critic, which is a plain network."""
    _, (run,) = prepare_pack([config_of("sac")])
    state = 4 * EXPECTED["sac"].stored + 104 + 672
    samples = EXPECTED["sac"].replay + 3 * 4 * (256 + 32) * 16
    assert run.costs.memory_bytes == samples + state + state // 4


def test_traffic_in_blocks_is_of_what_is_stored() -> None:
    """Compact weights are expanded for products; blocks are multiplied as they are stored."""
    agent = {"network": "mlp", "actor_width_ratio": 1.0}
    found = {}
    for storage, pattern in (("masked", "block"), ("block", "block"), ("compact", "unstructured")):
        pruning = {
            "storage": storage, "pattern": pattern, "distribution": "uniform", "actor_sparsity": 0.0,
        }  # fmt: skip
        config = run_config(
            {
                "agent": agent, "env": {"source": "gymnax", "task": "Pendulum-v1"}, "pruning": pruning,
                "width": 64, "sparsity": 0.75, "env_steps": 400, "log_every": 200,
            }
        )  # fmt: skip
        loop, (run,) = prepare_pack([config])
        stored = {
            name: sum(x.size for x in jax.tree.leaves(part))
            for name, part in loop.agent.parameters(jax.eval_shape(loop.init, run.inputs).agent).items()
        }
        found[storage] = (run.costs, stored)
    for storage, (costs, stored) in found.items():
        read = {
            name: stored[name] if storage == "block" else counts.total
            for name, counts in costs.parameters.items()
        }
        expected = 4 * (
            4 * read["actor"] + 8 * stored["actor"] + 6 * read["critic"] + 11 * stored["critic"]
        )
        assert costs.bytes_per_update == expected
    assert found["block"][0].bytes_per_update < 0.6 * found["masked"][0].bytes_per_update


def test_traffic_of_a_stream_is_of_what_survives() -> None:
    """Four and three products with the weights that are stored, and five accesses along the traces."""
    data = {
        "agent": {"name": "stream_ac"}, "env": {"source": "gymnax", "task": "Pendulum-v1"}, "width": 16,
        "pruning": {"distribution": "uniform"}, "sparsity": 0.75, "env_steps": 400, "log_every": 200,
    }  # fmt: skip
    _, (run,) = prepare_pack([run_config(data)])
    assert run.config.storage.storage == "compact"
    parts = EXPECTED["stream_ac"].networks
    kept = {name: sum(part.kernels) // 4 + part.rest for name, part in parts.items()}
    assert run.costs.bytes_per_update == 4 * (kept["actor"] * (3 + 5) + kept["critic"] * (4 + 5))
    traces = 2 * sum(kept.values()) + 2
    places = sum(sum(part.kernels) // 4 + 2 * len(part.kernels) for part in parts.values())
    assert run.costs.state_bytes == 4 * (traces + places)


def chunks(told: list[tuple[str, int]], updates: float = 7.0) -> Programs:
    """Programs that compute nothing, and tell when they were called."""

    def chunk(first: Any, state: int) -> tuple[int, dict[str, float]]:
        told.append(("chunk", int(first)))
        return state + 1, {"updates_in_chunk": updates, "loss/critic": 0.5, "param_norm/actor": 1.0}

    def evaluate(interactions: Any, state: int) -> dict[str, float]:
        told.append(("evaluate", int(interactions)))
        return {"return_mean": 10.0 * state, "eval_episodes_distinct": 2.0}

    return Programs(lambda inputs: 0, chunk, evaluate, 1.5)


class _Nothing(NamedTuple):
    """A loop whose states are numbers."""

    def trained(self, state: int) -> dict[str, np.ndarray]:
        return {"state": np.array(state)}

    def to_disk(self, state: int) -> dict[str, np.ndarray]:
        return {"state": np.array(state)}

    def from_disk(self, arrays: Any, inputs: Any) -> int:
        return int(arrays["state"])


def locked(config: RunConfig, study: Path, told: list[Any], **options: Any) -> tuple[Lockstep, Run]:
    """A run in lockstep that trains nothing."""
    _, (run,) = prepare_pack([config])
    policy = options.pop("policy", Policy())
    watch, stop = options.pop("watch", lambda progress: None), options.pop("stop", threading.Event())
    loop: Any = _Nothing()
    return Lockstep(loop, chunks(told), [run], study, "map", "none", watch, policy, stop), run


def test_log_points_and_evaluations_are_where_the_budget_says(tmp_path: Path) -> None:
    """Rounds of 2 environments × 2 frames; log points every 40, evaluations every 80 and at the end."""
    told: list[tuple[str, int]] = []
    config = config_of("sac", env_steps=200, log_every=40, eval_every=80)
    seen: list[Progress] = []
    together, _ = locked(config, tmp_path, told, watch=seen.append)
    assert together.train() == ["done"]
    assert told == [
        ("chunk", 0), ("chunk", 10), ("evaluate", 20), ("chunk", 20), ("chunk", 30), ("evaluate", 40),
        ("chunk", 40), ("evaluate", 50),
    ]  # fmt: skip
    frame = results.read_metrics(tmp_path / config.run_id)
    assert frame["env_steps"].tolist() == [40, 80, 120, 160, 200]
    assert frame["updates"].tolist() == [7, 14, 21, 28, 35]
    assert frame["return_mean"].dropna().tolist() == [20.0, 40.0, 50.0]
    assert "updates_in_chunk" not in frame
    assert [p.env_steps for p in seen] == [0, 40, 80, 120, 160, 200, 200]
    assert [p.updates for p in seen] == [0, 7, 14, 21, 28, 35, 35]
    assert seen[2].return_mean == 20.0
    assert seen[-1].ended == "done"
    trained = checkpoints.read_arrays(tmp_path / config.run_id / results.PARAMETERS)
    assert int(trained["state"]) == 5


def test_times_and_rates_are_of_this_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes 3 seconds on in a chunk; the second attempt goes on from env step 80 of 200."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    config = config_of("sac", env_steps=200, log_every=40, eval_every=80)
    for until, attempts in ((80, 1), (None, 2)):
        together, run = locked(config, tmp_path, [], policy=Policy(every=80))
        chunk = together.programs.chunk

        def slow(first: Any, state: int, chunk: Any = chunk) -> Any:
            now[0] += 3.0
            return chunk(first, state)

        def stop(progress: Progress, until: Any = until, together: Lockstep = together) -> None:
            if until and progress.env_steps >= until:
                together.stop.set()

        together.programs, together.watch = together.programs._replace(chunk=slow), stop
        together.train()
        now[0] += 1000.0
        record = results.read_run(tmp_path / run.config.run_id) or {}
        assert len(record["attempts"]) == attempts
    frame = results.read_metrics(tmp_path / config.run_id)
    assert frame["wall_time"].tolist() == [3.0, 6.0, 9.0, 12.0, 15.0]
    assert record["attempts"][1]["from_env_steps"] == 80
    assert record["attempts"][1]["repeats_env_steps"] == 0
    assert record["timings"] == {
        "total_seconds": 15.0, "compile_seconds": 1.5, "train_seconds": 9.0,
        "env_steps_per_second": pytest.approx(120 / 9), "updates_per_second": pytest.approx(21 / 9),
    }  # fmt: skip
    assert record["progress"]["env_steps"] == 200
    assert record["progress"]["updates"] == 35
    assert record["progress"]["return_mean"] == 50.0  # states count on from the checkpoint's


def test_checkpoints_are_written_as_often_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    original = checkpoints.save

    def save(run_dir: Path, env_steps: int, arrays: Any) -> None:
        saved.append(env_steps)
        original(run_dir, env_steps, arrays)

    monkeypatch.setattr(checkpoints, "save", save)
    config = config_of("sac", env_steps=400, log_every=40, eval_every=400)
    locked(config, tmp_path / "often", [], policy=Policy(every=120))[0].train()
    assert saved == [120, 240, 360]
    saved.clear()
    kept, run = locked(config, tmp_path / "kept", [], policy=Policy(every=120, keep=True))
    kept.train()
    assert saved == [120, 240, 360, 400]
    assert checkpoints.steps(tmp_path / "kept" / run.config.run_id) == [400]
    assert checkpoints.steps(tmp_path / "often" / run.config.run_id) == []


def test_repeated_work_is_counted(tmp_path: Path) -> None:
    """An attempt broke off at 160, its newest checkpoint is at 80."""
    config = config_of("sac", env_steps=200, log_every=40, eval_every=80)
    _, (run,) = prepare_pack([config])
    rows = [{"env_steps": s, "updates": s // 4, "wall_time": s / 10} for s in (40, 80)]
    first = Recorder(tmp_path, config, run.costs, "none", rows)
    first.row({"env_steps": 120, "updates": 30})
    first.row({"env_steps": 160, "updates": 40, "return_mean": 2.0})
    first.flush()
    again = Recorder(tmp_path, config, run.costs, "none", rows)
    assert again.updates == 20
    record = json.loads((tmp_path / results.RUN).read_text())
    assert record["attempts"][1]["from_env_steps"] == 80
    assert record["attempts"][1]["repeats_env_steps"] == 80
    again.row({"env_steps": 120, "updates": 31})
    again.flush()
    frame = results.read_metrics(tmp_path)
    assert frame["updates"].tolist() == [10, 20, 31]
    assert frame["wall_time"].iloc[-1] >= 8.0  # seconds of the attempt before count


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ({"loss/critic": math.nan}, "loss/critic is nan"),
        ({"grad_norm/actor": math.inf}, "grad_norm/actor is inf"),
        ({"param_norm/actor": math.inf, "updates_in_chunk": 0.0}, "param_norm/actor is inf"),
        ({"loss/critic": math.nan, "updates_in_chunk": 0.0}, None),  # nothing was learned yet
        ({"srank/critic": math.nan, "return_mean": math.nan}, None),
    ],
)
def test_what_counts_as_divergence(numbers: dict[str, float], why: str | None) -> None:
    assert module.divergence({"updates_in_chunk": 3.0, "loss/critic": 1.0, **numbers}) == why


def test_a_pack_is_cut_in_two_and_no_run_is_lost(make_config: MakeConfig) -> None:
    pack = prepare_pack([make_config(seed=seed) for seed in range(5)])
    assert [[r.config.seed for r in half.runs] for half in halves(pack)] == [[0, 1, 2], [3, 4]]
    assert [len(half.runs) for half in halves(pack._replace(runs=pack.runs[:1]))] == [1]
    assert halves(pack._replace(runs=[])) == []


def test_large_updates_train_one_at_a_time(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by dense FLOPs: masked products multiply all weights, however sparse."""
    monkeypatch.setattr(packing, "cores", lambda: 3)
    runs = prepare_pack([make_config(seed=seed, sparsity=0.9) for seed in range(5)]).runs
    assert workers(runs, "map") == 3
    assert workers(runs[:2], "map") == 2
    assert workers(runs, "vmap") == 1
    large = [
        run._replace(costs=run.costs._replace(flops_per_update_dense=2_000_000_001)) for run in runs
    ]
    assert workers(large, "map") == 1
    edge = [run._replace(costs=run.costs._replace(flops_per_update_dense=2_000_000_000)) for run in runs]
    assert workers(edge, "map") == 3
    narrow = [run._replace(costs=run.costs._replace(memory_bytes=10)) for run in runs]
    monkeypatch.setattr(packing, "available_bytes", lambda: 25)
    assert workers(narrow, "map") == 2  # 0.8 · 25 bytes hold two


def test_a_probe_row_by_hand() -> None:
    """Off the diagonal 0.1, 0.2, 0.6 and their mirror images: 0.3."""
    found = {
        "before": {"return_mean": -5.0, "loss/critic": 9.0},
        "retrained": {
            "actor": {"return_mean": -4.0, "loss/critic": 0.25},
            "critic": {"return_mean": -3.0, "loss/critic": 0.5},
        },
        "gradient_cosine": {"critic": [[1.0, 0.1, 0.2], [0.1, 1.0, 0.6], [0.2, 0.6, 1.0]]},
        "policy_churn": 0.75,
    }
    row = row_of(config_of("sac", seed=3), found)
    assert row["grad_cosine/critic"] == pytest.approx(0.3)
    assert (row["return before"], row["policy_churn"]) == (-5.0, 0.75)
    assert (row["return, anew: actor"], row["loss/critic, anew: actor"]) == (-4.0, 0.25)
    assert (row["return, anew: critic"], row["loss/critic, anew: critic"]) == (-3.0, 0.5)
    assert (row["width"], row["sparsity"], row["seed"]) == (16, 0.75, 3)
    assert config_of("sac", seed=3).run_id == row["run_id"]
