"""Programs for accelerators, exported by a machine that has none: nothing is of this processor."""

import re
import shutil
from typing import Any, NamedTuple

import crew
import jax
import jax.numpy as jnp
import pytest
from conftest import MakeConfig
from effects import inner

from sparse_rl.agents import OFF_POLICY, ON_POLICY, RECALLING, STREAMING
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


class Programs(NamedTuple):
    """What a pack's programs call, batched as on an accelerator."""

    exported: set[str]
    """Targets of custom calls (of all that is not XLA's own instructions), exported for ``cuda`` and
    ``tpu`` at once."""
    asked: set[str]
    """Our kernels for a CPU that they would call on one."""


def asked_for(program: Any) -> set[str]:
    """Kernels of ours in what was traced, before it is lowered for a platform."""
    found = set()
    for eqn in getattr(program, "jaxpr", program).eqns:
        if eqn.primitive.name == "by_platform" and eqn.params["cpu"].__name__.startswith("_our_"):
            form = eqn.params["cpu"]
            found.add(form.__module__.rpartition(".")[2] + form.__name__)
        for value in eqn.params.values():
            found |= {kernel for part in inner(value) for kernel in asked_for(part)}
    return found


def programs_of(configs: list[Any]) -> Programs:
    """All of a pack's programs in one."""
    loop: Any
    loop, runs = prepare_pack(configs)

    def whole(inputs: Any) -> Any:
        state, row = loop.chunk(jnp.int32(0), loop.init(inputs))
        return state, row, loop.evaluate(jnp.int32(0), state)

    inputs, batched = stack([run.inputs for run in runs]), jax.jit(jax.vmap(whole))
    asked = asked_for(batched.trace(inputs).jaxpr)
    made = jax.export.export(batched, platforms=["cuda", "tpu"])(inputs)
    return Programs(set(re.findall(r"custom_call @([\w.]+)", made.mlir_module())), asked)


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", [*OFF_POLICY, *ON_POLICY, *RECALLING, *STREAMING])
def test_programs_for_accelerators_hold_none_of_our_kernels(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, name: str, storage: str
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
    programs = programs_of(configs)
    assert programs.exported <= OF_LIBRARIES
    alone = storage == "block" and name in STREAMING  # one sample: no product of ours
    if shutil.which("g++"):  # on a CPU there are some: the choice was made
        assert bool(programs.asked) == (name == "drq" or (storage != "masked" and not alone))


def test_linear_controllers_for_accelerators_hold_none_of_our_kernels(make_config: MakeConfig) -> None:
    agent, env = {"name": "azopg", "workers": 3}, {"source": "lqr", "task": "chain"}
    configs = [make_config(agent=agent, env=env, width=3, sparsity=0.5, seed=seed) for seed in (0, 1)]
    assert programs_of(configs).exported <= OF_LIBRARIES


@needs_compiler
def test_health_for_accelerators_needs_no_solver(make_config: MakeConfig) -> None:
    """What is measured of networks finds singular values, and multiplies in blocks."""
    pruning = {"pattern": "block", "storage": "block"}
    programs = programs_of([make_config(sparsity=0.5, pruning=pruning)])
    assert programs.exported <= OF_LIBRARIES
    assert programs.asked == {"blocks_our_outputs", "blocks_our_inputs", "blocks_our_gradients"}
