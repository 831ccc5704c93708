"""Shared test settings: strict JAX, a compilation cache, and small run configurations."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before jax is imported: one cache for the whole suite makes repeated programs cheap.
CACHE = Path(tempfile.gettempdir()) / f"sparse_rl_test_cache_{os.getuid()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
# Of small programs, too: they are 18,000 of the suite's 21,000, and many are those of other files.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("WANDB_MODE", "offline")
# Of the workers, which begin after this is read: else each thread that compiles keeps a heap of its own.
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
# Most of the suite's time goes to making machine code. What is computed is decided by XLA's own passes
# before that, and those are as users have them: without LLVM's optimisations a third of the time is
# saved, and without the newer way of writing loops another quarter, with two fifths of the memory.
CHEAPLY = {"--xla_backend_optimization_level": "0", "--xla_cpu_use_fusion_emitters": "false"}
for flag, value in CHEAPLY.items():
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}={value}".strip()

import contexts  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import threefry  # noqa: E402
from workers import (  # noqa: E402, F401 (hooks and a fixture, which pytest looks for here)
    programs_go_with_their_file,
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    pytest_xdist_auto_num_workers,
)

from sparse_rl.agents import actor_critic, choosing, drq, q_learner, streaming  # noqa: E402
from sparse_rl.agents.actor_critic import ActorCritic  # noqa: E402
from sparse_rl.agents.contract import RunInputs  # noqa: E402
from sparse_rl.experience.replay import Transition  # noqa: E402
from sparse_rl.loops.off_policy import OffPolicyLoop  # noqa: E402
from sparse_rl.loops.on_policy import OnPolicyLoop  # noqa: E402
from sparse_rl.runs import pack  # noqa: E402
from sparse_rl.runs.pack import prepare_pack  # noqa: E402
from sparse_rl.settings.run import RunConfig, run_config  # noqa: E402

threefry.use(CACHE)
contexts.use()

AS_FOR_USERS: Any = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
"""How a program is compiled that computes more than it takes to compile."""
OFF_POLICY = {
    "learning_rate": 1e-3,
    "batch_size": 32,
    "updates_per_interaction": 1,
    "random_interactions": 20,
}
RECALLING = {
    "num_envs": 2,
    "sequence_length": 3,
    "batch_size": 4,
    "target_every": 3,
    "random_interactions": 10,
    "updates_per_interaction": 0.5,
}
SMALL: dict[str, dict[str, Any]] = {
    "sac": OFF_POLICY,
    "ddpg": OFF_POLICY,
    "drq": OFF_POLICY
    | {
        "network": "drq_strided",
        "encoder_width_ratio": 0.25,
        "feature_width_ratio": 0.5,
        "n_steps": 2,
        "noise_steps": 500,
    },
    "ppo": {"learning_rate": 1e-3, "num_envs": 5, "num_steps": 10, "minibatches": 2, "epochs": 3},
    "ippo": {"learning_rate": 1e-3, "num_envs": 4, "num_steps": 5, "minibatches": 2, "epochs": 2},
    "mappo": {"learning_rate": 1e-3, "num_envs": 4, "num_steps": 5, "minibatches": 2, "epochs": 2},
    "pqn_vdn": {"num_envs": 4, "num_steps": 5, "minibatches": 2, "epochs": 2},
    **dict.fromkeys(("iql", "vdn", "qmix"), RECALLING),
    "paac": {"num_envs": 10, "num_steps": 5},
    "dqn": {"num_envs": 10, "num_steps": 5},
    "stream_q": {"network": "stream_mlp"},
}
"""Settings of runs of seconds, by agent."""

MakeConfig = Callable[..., RunConfig]


def static_parts(agent: Any) -> Any:
    """An off-policy agent's networks and constants, from the closure of its functions."""
    return agent.act.__closure__[0].cell_contents


def parts_of(loop: Any) -> ActorCritic:
    """Actor and critic of an on-policy loop, from the closure of the agent's functions."""
    found = [cell.cell_contents for cell in loop.agent.act.__closure__ or ()]
    (parts,) = [x for x in found if isinstance(x, ActorCritic)]
    return parts


def off_policy(config: RunConfig) -> tuple[OffPolicyLoop, RunInputs]:
    """A run's loop and inputs."""
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, OffPolicyLoop)
    return loop, run.inputs


def on_policy(config: RunConfig) -> tuple[OnPolicyLoop, RunInputs]:
    """A run's loop and inputs."""
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, OnPolicyLoop)
    return loop, run.inputs


def batch_of(n: int, seed: int = 1) -> Transition:
    """Random transitions of Pendulum's sizes, every fourth a termination."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return Transition(
        jax.random.normal(keys[0], (n, 3)),
        jax.random.uniform(keys[1], (n, 1), minval=-1.0),
        jax.random.normal(keys[2], (n,)),
        jax.random.normal(keys[3], (n, 3)),
        jnp.arange(n) % 4 == 0,
    )


def places(masks: Any, tree: Any) -> np.ndarray:
    """All values of ``tree`` at pruned places."""
    out = [
        np.asarray(leaf)[~np.asarray(mask)]
        for mask, leaf in zip(
            jax.tree.leaves(masks, is_leaf=lambda m: m is None), jax.tree.leaves(tree), strict=True
        )
        if mask is not None
    ]
    return np.concatenate(out)


def _form(inputs: Any) -> str:
    """What a program depends on of what its runs are given."""
    return str(jax.tree.map(lambda x: (x.shape, x.dtype) if hasattr(x, "dtype") else x, inputs))


@pytest.fixture(scope="module")
def programs_of_the_file() -> Iterator[dict[Any, Any]]:
    """What ``programs_once`` compiled; emptied, for pytest holds it until after the file's last test."""
    known: dict[Any, Any] = {}
    yield known
    known.clear()


@pytest.fixture
def programs_once(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    programs_of_the_file: dict[Any, Any],
) -> None:
    """Packs of a file that share a program share what was compiled of it: for tests of what becomes of
    runs, and not of their programs. Those that are marked ``own_programs`` have their own (a test that
    changes what programs compute is one), and so have environments of the host."""
    if request.node.get_closest_marker("own_programs"):
        return
    known_programs, compile_programs = programs_of_the_file, pack.compile_programs

    def once(loop: Any, inputs: Any, layout: Any) -> Any:
        if isinstance(loop, pack.DRIVEN):
            return compile_programs(loop, inputs, layout)
        given = _form(inputs if layout == "vmap" else inputs[0])
        looked_at = tuple(
            module.health for module in (actor_critic, choosing, drq, q_learner, streaming)
        )
        key = pack.program_of(loop.config), layout, given, looked_at
        if key not in known_programs:
            known_programs[key] = compile_programs(loop, inputs, layout)
        return known_programs[key]

    monkeypatch.setattr(pack, "compile_programs", once)


def _nothing_measured(*_: Any) -> dict[str, Any]:
    return {}


@pytest.fixture
def without_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the health of networks, which is half of a small program: for tests of others."""
    for module in (actor_critic, choosing, drq, q_learner, streaming):
        monkeypatch.setattr(module, "health", _nothing_measured)


@pytest.fixture
def make_config() -> MakeConfig:
    """A run of seconds: ``make_config(width=…, agent={…}, env={…}, …)`` over small defaults."""

    def make(**changes: Any) -> RunConfig:
        name = changes.get("agent", {}).get("name", "sac")
        agent = SMALL.get(name, {})
        source, task = {
            **dict.fromkeys(("dqn", "stream_q"), ("gymnax", "CartPole-v1")),
            "drq": ("probe", "picture"),
        }.get(name, ("gymnax", "Pendulum-v1"))
        env = {"source": source, "task": task, "eval_episodes": 3}
        data = {
            "agent": agent | changes.pop("agent", {}),
            "env": env | changes.pop("env", {}),
            "pruning": changes.pop("pruning", {}),
            "diagnostics": changes.pop("diagnostics", {}),
            "width": 16,
            "env_steps": 200,
            "log_every": 100,
            "eval_every": 100,
        }
        return run_config(data | changes)

    return make
