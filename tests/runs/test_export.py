"""Programs for accelerators, exported by a machine that has none: nothing is of this processor."""

import re
import shutil
from typing import Any

import crew
import jax
import jax.numpy as jnp
import pytest
from conftest import MakeConfig

from sparse_rl.agents import OFF_POLICY, ON_POLICY, RECALLING, STREAMING
from sparse_rl.kernels import native
from sparse_rl.runs.lockstep import stack
from sparse_rl.runs.pack import prepare_pack

# Samples come in multiples of 16: others are not multiplied by our kernels, whatever the platform.
ROLLOUTS = {"num_envs": 8, "num_steps": 8}
SHUFFLED = ROLLOUTS | {"minibatches": 2, "epochs": 1}
SEQUENCES = {"batch_size": 16}
MORE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ppo", "ippo", "mappo", "pqn_vdn"), SHUFFLED),
    **dict.fromkeys(("paac", "dqn"), ROLLOUTS),
    **dict.fromkeys(("iql", "vdn", "qmix"), SEQUENCES),
}
TEAM = {"source": "jaxmarl", "task": "crew", "eval_episodes": 1}
FOR_TEAMS = ("ippo", "mappo", "pqn_vdn", *RECALLING)
STORAGES = {"masked": "unstructured", "compact": "unstructured", "block": "block"}
OF_LIBRARIES = {
    "Qr", "ProductOfElementaryHouseholderReflectors", "LuDecomposition",  # XLA's own, on TPUs
    "cusolver_geqrf_ffi", "cusolver_orgqr_ffi",  # orthogonal weights, once per run
    "cusolver_getrf_ffi", "cu_lu_pivots_to_permutation",  # plants of lqr/…
}  # fmt: skip
"""What jaxlib brings for accelerators and programs may hold; singular values (gesvd…) are not in it."""


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Our kernels that are asked for while something is traced, whatever it is then lowered for."""
    jax.clear_caches()  # what another agent has traced would not be traced again
    found: set[str] = set()

    def watch(call: Any) -> Any:
        def seen(target: str, *arguments: Any, **options: Any) -> Any:
            found.add(target)
            return call(target, *arguments, **options)

        return seen

    for name in ("call", "call_each"):
        monkeypatch.setattr(native, name, watch(getattr(native, name)))
    return found


def exported(configs: list[Any]) -> set[str]:
    """Targets of custom calls (of all that is not XLA's own instructions) in a pack's programs, batched
    as on an accelerator and exported for ``cuda`` and ``tpu`` at once."""
    loop: Any
    loop, runs = prepare_pack(configs)

    def whole(inputs: Any) -> Any:
        state, row = loop.chunk(jnp.int32(0), loop.init(inputs))
        return state, row, loop.evaluate(jnp.int32(0), state)

    inputs = stack([run.inputs for run in runs])
    made = jax.export.export(jax.jit(jax.vmap(whole)), platforms=["cuda", "tpu"])(inputs)
    return set(re.findall(r"custom_call @([\w.]+)", made.mlir_module()))


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", [*OFF_POLICY, *ON_POLICY, *RECALLING, *STREAMING])
def test_programs_for_accelerators_hold_none_of_our_kernels(
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    asked: set[str],
    name: str,
    storage: str,
) -> None:
    crew.install(monkeypatch)
    configs = [
        make_config(
            seed=seed, sparsity=0.5, agent={"name": name, **MORE.get(name, {})},
            env=TEAM if name in FOR_TEAMS else {"eval_episodes": 1},
            pruning={"pattern": STORAGES[storage], "storage": storage},
        )
        for seed in (0, 1)
    ]  # fmt: skip
    assert exported(configs) <= OF_LIBRARIES
    if shutil.which("g++"):  # on a CPU there are some: the choice was made
        # streaming agents ask for dense networks' when these are counted
        assert bool(asked) == (storage != "masked" or name in ("drq", *STREAMING))


def test_linear_controllers_for_accelerators_hold_none_of_our_kernels(make_config: MakeConfig) -> None:
    agent, env = {"name": "azopg", "workers": 3}, {"source": "lqr", "task": "chain"}
    configs = [make_config(agent=agent, env=env, width=3, sparsity=0.5, seed=seed) for seed in (0, 1)]
    assert exported(configs) <= OF_LIBRARIES


@needs_compiler
def test_health_for_accelerators_needs_no_solver(make_config: MakeConfig, asked: set[str]) -> None:
    """What is measured of networks finds singular values, and multiplies in blocks."""
    pruning = {"pattern": "block", "storage": "block"}
    assert exported([make_config(sparsity=0.5, pruning=pruning)]) <= OF_LIBRARIES
    assert asked == {"block_outputs", "block_inputs", "block_gradients"}
