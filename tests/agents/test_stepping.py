"""Optimiser steps with factors, against the textbook's in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SMALL

from sparse_rl.agents.contract import RunInputs
from sparse_rl.agents.stepping import Scaled, begin, begin_one, descend, emptied
from sparse_rl.networks import Scale
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.common import ParametrisedConfig
from sparse_rl.settings.run import RunConfig, run_config

RATE, DECAY, EPSILON = 0.03, 0.7, 1e-3
FIRST, SECOND = 0.9, 0.999
OUTPUT, HIDDEN = 5.25, 0.9375
"""m of an output and of a hidden layer."""
SCALES = {
    "hidden/kernel": Scale(np.float32(1.7), None, np.float32(1 / HIDDEN)),
    "output/kernel": Scale(np.float32(0.3), np.float32(1 / OUTPUT), np.float32(1 / OUTPUT)),
    "output/bias": Scale(),
}
WEIGHTS = {"hidden": {"kernel": [0.3, -1.1]}, "output": {"kernel": [0.21, 0.4], "bias": [0.9]}}
GRADIENTS = (
    {"hidden": {"kernel": [2e-3, -0.4]}, "output": {"kernel": [3e-3, 5e-3], "bias": [-0.2]}},
    {"hidden": {"kernel": [-7e-3, 0.1]}, "output": {"kernel": [-1e-3, 4e-3], "bias": [0.3]}},
)


def inputs(scales: Any) -> RunInputs:
    return RunInputs(np.uint32(0), np.uint32(0), np.float32(RATE), {}, scales)


def trees(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32), tree, is_leaf=lambda x: isinstance(x, list))


def adamw(weight: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    """Loshchilov and Hutter 2019, Algorithm 2: decay in units of its own share per step."""
    m = v = np.zeros_like(weight)
    for t, g in enumerate(gradients, start=1):
        m, v = FIRST * m + (1 - FIRST) * g, SECOND * v + (1 - SECOND) * g**2
        moved = (m / (1 - FIRST**t)) / (np.sqrt(v / (1 - SECOND**t)) + EPSILON)
        weight = weight - rate * moved - decay * weight
    return weight


def as_arrays(layer: str, part: str) -> tuple[np.ndarray, list[np.ndarray]]:
    return np.array(WEIGHTS[layer][part]), [np.array(g[layer][part]) for g in GRADIENTS]


@pytest.mark.parametrize("one", [True, False])
def test_steps_are_those_of_a_network_whose_output_is_multiplied(one: bool) -> None:
    """The reference holds θ and computes with θ/m in the output; the hidden layer has rate η/m; all lose
    ηλ of their weight per step."""
    optimiser = optax.adamw(RATE, eps=EPSILON, weight_decay=DECAY)
    params, scales = trees(WEIGHTS), inputs({"critic": SCALES})
    if one:
        state = begin_one(optimiser, "critic", params, scales)
    else:
        params = {"critic": params}
        state = begin(optimiser, params, scales)
    for gradient in GRADIENTS:
        grads = trees(gradient) if one else {"critic": trees(gradient)}
        params, state = descend(optimiser, grads, state, params)
    found = params if one else params["critic"]
    hidden, gradients = as_arrays("hidden", "kernel")
    wanted = adamw(hidden, gradients, RATE / HIDDEN, RATE * DECAY)
    np.testing.assert_allclose(found["hidden"]["kernel"], wanted, rtol=2e-6)
    output, gradients = as_arrays("output", "kernel")
    theta = adamw(output * OUTPUT, [g / OUTPUT for g in gradients], RATE, RATE * DECAY)
    np.testing.assert_allclose(found["output"]["kernel"], theta / OUTPUT, rtol=2e-6)
    wanted = adamw(*as_arrays("output", "bias"), RATE, RATE * DECAY)
    np.testing.assert_allclose(found["output"]["bias"], wanted, rtol=2e-6)


def test_gradients_are_clipped_as_the_network_with_its_multiplier_has_them() -> None:
    """Of 3 in the output only 3/5.25 counts beside 4: the norm is 4.04, and all are cut to a tenth of
    it."""
    optimiser = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
    scales = {name: scale._replace(step=None) for name, scale in SCALES.items()}
    params = trees({"hidden": {"kernel": [0.0]}, "output": {"kernel": [0.0], "bias": [0.0]}})
    state = begin_one(optimiser, "critic", params, inputs({"critic": scales}))
    grads = trees({"hidden": {"kernel": [4.0]}, "output": {"kernel": [3.0], "bias": [0.0]}})
    after, _ = descend(optimiser, grads, state, params)
    norm = np.hypot(4.0, 3.0 / OUTPUT)
    np.testing.assert_allclose(after["hidden"]["kernel"], [-0.4 / norm], rtol=1e-6)
    np.testing.assert_allclose(after["output"]["kernel"], [-0.3 / OUTPUT / norm], rtol=1e-6)


def test_without_factors_an_optimisers_state_is_its_own() -> None:
    optimiser, params = optax.adam(RATE), trees(WEIGHTS)
    plain = {name: Scale(scale.initial) for name, scale in SCALES.items()}
    for scales in ((), {"critic": plain}):
        state = begin_one(optimiser, "critic", params, inputs(scales))
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(optimiser.init(params)))


def test_an_emptied_state_keeps_its_factors() -> None:
    optimiser, params = optax.adam(RATE), trees(WEIGHTS)
    state = begin_one(optimiser, "critic", params, inputs({"critic": SCALES}))
    _, state = descend(optimiser, trees(GRADIENTS[0]), state, params)
    empty = emptied({"critic": state})["critic"]
    assert not any(np.any(x) for x in jax.tree.leaves(empty.inner))
    assert jax.tree.leaves(empty[1:]) == jax.tree.leaves(state[1:])
    assert len(jax.tree.leaves(empty[1:])) == 3


TASKS = {
    "drq": ("probe", "picture"),
    "paac": ("gymnax", "CartPole-v1"),
    "dqn": ("gymnax", "CartPole-v1"),
}
TEAM = ("jaxmarl", "switch_riddle")


def config_of(name: str) -> RunConfig:
    team = name in ("ippo", "mappo", "pqn_vdn", "iql", "vdn", "qmix")
    source, task = TEAM if team else TASKS.get(name, ("gymnax", "Pendulum-v1"))
    agent = SMALL[name] | {"name": name, "parametrisation": "smup", "base_width": 10}
    budget = {"env_steps": 200, "log_every": 100, "eval_every": 100}
    return run_config(
        {"agent": agent, "env": {"source": source, "task": task}, "width": 24, "sparsity": 0.6} | budget
    )


@pytest.mark.parametrize(
    "name", [name for name, of in AGENT_CONFIGS.items() if issubclass(of, ParametrisedConfig)]
)
def test_every_agent_steps_with_the_factors_of_its_run(name: str) -> None:
    """Its optimisers hold a factor of each tensor that has one. Nothing is compiled."""
    loop: Any
    try:
        loop, (run,) = prepare_pack([config_of(name)])
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    state = jax.eval_shape(loop.init, run.inputs).agent
    held = [x for x in jax.tree.leaves(state, is_leaf=_is_scaled) if _is_scaled(x)]
    networks = loop.agent.parameters(state)
    assert set(run.inputs.scales) == set(networks) == set(loop.config.agent.NETWORKS)
    steps = [scale.step for of in run.inputs.scales.values() for scale in of.values()]
    assert sum(len(jax.tree.leaves(each.step)) for each in held) == len(jax.tree.leaves(steps)) > 2
    assert sum(len(each.step) for each in held) == len(jax.tree.leaves(networks))


def _is_scaled(node: Any) -> bool:
    return isinstance(node, Scaled)
