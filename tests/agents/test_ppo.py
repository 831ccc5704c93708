"""PPO: the paper's equations by hand, and a pruned weight that does not exist."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, on_policy, places

from sparse_rl.agents.contract import Experience, View
from sparse_rl.agents.ppo import approximate_kl, clipped_objective, value_loss
from sparse_rl.diagnostics import global_norm
from sparse_rl.pruning import restore, support_masks
from sparse_rl.runs.pack import compile_programs, prepare_pack
from sparse_rl.settings.run import RunConfig

KEY = jax.random.key(0)


def start(config: RunConfig) -> tuple[Any, Any]:
    """The agent's functions and its state before the first update."""
    loop, inputs = on_policy(config)
    agent = loop.agent._replace(update=jax.jit(loop.agent.update))
    return agent, jax.jit(agent.init)(KEY, inputs)


def experience_of(n: int, seed: int = 1) -> Experience:
    """Of Pendulum's sizes."""
    keys = jax.random.split(jax.random.key(seed), 5)
    action = jax.random.normal(keys[1], (n, 1))
    log_prob = -0.5 * jnp.square(action[:, 0]) - 0.5 * jnp.log(2 * jnp.pi)
    value, advantage = jax.random.normal(keys[2], (n,)), jax.random.normal(keys[3], (n,))
    view = View(jax.random.normal(keys[0], (n, 3)))
    return Experience(view, action, log_prob, value, advantage, value + advantage)


def test_clipped_objective_by_hand() -> None:
    """r = 1.5, 0.5, 1.5, 0.5 and A = 1, 1, −1, −1: min(1.5, 1.2), min(0.5, 0.8), −1.5, −0.8."""
    ratio, advantage = jnp.array([1.5, 0.5, 1.5, 0.5]), jnp.array([1.0, 1.0, -1.0, -1.0])
    found = clipped_objective(ratio, advantage, 0.2)
    assert float(found) == pytest.approx((1.2 + 0.5 - 1.5 - 0.8) / 4)
    # no incentive to go further than the clip, in either direction
    slope = jax.grad(lambda r: clipped_objective(r, advantage, 0.2) * 4)(ratio)
    np.testing.assert_allclose(slope, [0.0, 1.0, -1.0, 0.0])


def test_value_loss_by_hand() -> None:
    value, old, target = jnp.array([2.0]), jnp.array([0.0]), jnp.array([3.0])
    assert float(value_loss(value, old, target, None)) == pytest.approx(0.5)
    # no further than 0.5 from the old value: 0.5, which is 2.5 off
    assert float(value_loss(value, old, target, 0.5)) == pytest.approx(0.5 * 2.5**2)


def test_approximate_kl_is_that_of_two_gaussians() -> None:
    """KL(N(0, 1) ‖ N(μ, 1)) = μ²/2, from samples of the first."""
    x = jax.random.normal(KEY, (200_000,))
    log_ratio = -0.5 * (x - 0.3) ** 2 + 0.5 * x**2
    assert float(approximate_kl(log_ratio)) == pytest.approx(0.045, rel=0.05)
    assert float(approximate_kl(jnp.zeros(3))) == 0.0


def test_first_update_by_hand(make_config: MakeConfig) -> None:
    """One epoch of one minibatch: Adam's first step moves each weight by lr·sign(gradient)."""
    agent, before = start(make_config(agent={"name": "ppo", "epochs": 1, "minibatches": 1}))
    after, learned = agent.update(before, experience_of(50), jnp.float32(0.25), KEY)
    moved = jax.tree.map(jnp.subtract, after.networks, before.networks)
    np.testing.assert_allclose(np.abs(moved["critic"]["value"]["bias"]), 7.5e-4, rtol=1e-3)
    assert int(learned.updates) == 1
    assert float(learned.metrics["approx_kl"]) < 1e-3  # of a policy with itself, nearly N(0, 1)
    assert float(learned.metrics["entropy"]) == pytest.approx(0.5 * np.log(2 * np.pi * np.e), rel=1e-5)


def test_gradients_are_clipped_by_their_global_norm(make_config: MakeConfig) -> None:
    """μ₁ = 0.1·g: both networks' clipped gradients make one vector, in the direction of the raw one."""

    def moment(max_grad_norm: float) -> tuple[Any, Any]:
        settings = {"name": "ppo", "epochs": 1, "minibatches": 1, "max_grad_norm": max_grad_norm}
        agent, state = start(make_config(sparsity=0.5, agent=settings))
        after, learned = agent.update(state, experience_of(50), jnp.float32(0), KEY)
        return after.optimiser[1][0].mu, learned.metrics

    raw, metrics = moment(1e6)
    clipped, same = moment(0.1)
    assert float(global_norm(raw)) > 0.02  # there is something to clip
    assert float(global_norm(clipped)) == pytest.approx(0.1 * 0.1, rel=1e-4)
    scale = 0.01 / float(global_norm(raw))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, scale * b, rtol=1e-3, atol=1e-8), clipped, raw
    )
    for network in ("actor", "critic"):  # logged before clipping, over surviving weights only
        norm = float(global_norm(raw[network])) / 0.1
        assert float(metrics[f"grad_norm/{network}"]) == pytest.approx(norm, rel=1e-4)
        assert float(same[f"grad_norm/{network}"]) == pytest.approx(norm, rel=1e-4)


def test_the_learning_rate_falls_linearly_or_not_at_all(make_config: MakeConfig) -> None:
    for schedule, expected in (("linear", 0.25), ("constant", 1.0)):
        settings = {"name": "ppo", "learning_rate_schedule": schedule, "epochs": 1, "minibatches": 1}
        agent, state = start(make_config(agent=settings))
        late, _ = agent.update(state, experience_of(50), jnp.float32(0.75), KEY)
        moved = late.networks["critic"]["value"]["bias"] - state.networks["critic"]["value"]["bias"]
        assert float(jnp.abs(moved[0])) == pytest.approx(1e-3 * expected, rel=1e-2)


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_an_update_that_moved_too_far_stops_at_once(make_config: MakeConfig, layout: str) -> None:
    """Run 1 takes huge steps: after its first, nothing of it moves; run 0 is not disturbed."""
    settings = {"name": "ppo", "target_kl": 0.01, "epochs": 4, "minibatches": 5}
    agent, state = start(make_config(agent=settings))
    states = [state._replace(learning_rate=jnp.float32(lr)) for lr in (1e-6, 1.0)]
    batch, progress = experience_of(50), jnp.float32(0)

    def update(state: Any) -> Any:
        return agent.update(state, batch, progress, KEY)

    if layout == "map":
        ended = [jax.jit(update)(each) for each in states]
    else:
        both = jax.jit(jax.vmap(update))(jax.tree.map(lambda *x: jnp.stack(x), *states))
        ended = [jax.tree.map(lambda x, i=i: x[i], both) for i in range(2)]
    (_, calm), (wild, stopped) = ended
    assert int(calm.updates) == 20
    assert int(stopped.updates) == 1
    # exactly one step was taken, whole: Adam counts it, and the weights are those after it
    assert int(wild.optimiser[1][0].count) == 1
    moved = wild.networks["critic"]["value"]["bias"] - state.networks["critic"]["value"]["bias"]
    assert float(jnp.abs(moved[0])) == pytest.approx(1.0, rel=1e-2)
    assert all(np.isfinite(float(x)) for x in jax.tree.leaves(stopped))


@pytest.mark.parametrize("network", ["mlp", "simba"])
def test_a_pruned_weight_does_not_exist(make_config: MakeConfig, network: str) -> None:
    agent, state = start(make_config(sparsity=0.8, agent={"name": "ppo", "network": network}))
    masks = support_masks(state.supports)
    for i in range(6):
        adam = state.optimiser[1][0]
        for name, tree in {"parameters": state.networks, "mu": adam.mu, "nu": adam.nu}.items():
            gone = places(masks, tree)
            assert gone.size > 0
            assert not gone.any(), f"{name} after {i} updates"
        state, _ = agent.update(state, experience_of(50, seed=i), jnp.float32(0), jax.random.key(i))


STORAGES = {"unstructured": ("masked", "compact"), "block": ("masked", "block")}


def trained(make_config: MakeConfig, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """A run's dense parameters after two chunks of its compiled program, and its last row."""
    loop, inputs = on_policy(make_config(agent={"name": "ppo"}, width=32, **changes))
    programs = compile_programs(loop, [inputs], "map")
    state = programs.init(inputs)
    for first in (0, 20):
        state, row = programs.chunk(np.int32(first), state)
    networks = restore(state.agent.supports, state.agent.networks)
    gone = places(support_masks(state.agent.supports), networks)
    assert gone.size > 0
    assert not gone.any()
    return networks, row


@pytest.mark.parametrize("pattern", ["unstructured", "block"])
def test_storages_give_the_same_numbers_and_keep_pruned_weights_at_zero(
    make_config: MakeConfig, pattern: str
) -> None:
    outcomes = [
        trained(make_config, sparsity=0.7, pruning={"pattern": pattern, "storage": storage})
        for storage in STORAGES[pattern]
    ]
    (one, row), (two, other) = outcomes
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3), one, two)
    for name in ("loss/critic", "param_norm/actor", "param_norm/critic", "dormant_ratio/critic"):
        assert float(row[name]) == pytest.approx(float(other[name]), rel=2e-2, abs=2e-2)


def test_sparsity_zero_is_bitwise_the_dense_program(make_config: MakeConfig) -> None:
    agent, state = start(make_config(sparsity=0.0, agent={"name": "ppo"}))
    assert not jax.tree.leaves(state.supports)
    dense = state._replace(supports={"actor": None, "critic": None})
    update = jax.jit(agent.update)
    for i in range(3):
        batch, key = experience_of(50, seed=i), jax.random.key(i)
        state, dense = (update(s, batch, jnp.float32(0), key)[0] for s in (state, dense))
    jax.tree.map(np.testing.assert_array_equal, state._replace(supports=0), dense._replace(supports=0))


def test_a_picture_is_read_by_a_convolution_that_is_pruned_like_the_rest(
    make_config: MakeConfig,
) -> None:
    agent = {"name": "ppo", "network": "minatar"}
    env = {"task": "Breakout-MinAtar", "eval_episodes": 1}
    config = make_config(sparsity=0.9, width=16, agent=agent, env=env)
    loop, inputs = on_policy(config)
    costs = prepare_pack([config]).runs[0].costs
    state, row = jax.jit(loop.chunk)(jnp.int32(0), jax.jit(loop.init)(inputs))
    masks = support_masks(state.agent.supports)
    assert not places(masks, state.agent.networks).any()
    for name in ("actor", "critic"):
        kept = sum(int(mask.sum()) for mask in jax.tree.leaves(masks[name]))
        total = sum(mask.size for mask in jax.tree.leaves(masks[name]))
        assert kept == round(0.1 * total)
        assert {f"dormant_ratio/{name}/conv", f"dormant_ratio/{name}/dense"} <= set(row)
    assert all(0 <= float(v) <= 1 for k, v in row.items() if k.startswith("dormant_ratio"))
    # conv 3·3·4·2 at 64 places, dense 64·2·16, a head of 3 and one of 1; 2 FLOPs, 3 passes, 25 samples
    weights = 2 * (3 * 3 * 4 * 2 * 64 + 64 * 2 * 16) + 16 * 3 + 16 * 1
    assert costs.flops_per_update_dense == 2 * weights * 3 * 25


def test_compiled_flops_agree_with_the_cost_model(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA's own count of one minibatch's products, dense; the first layer needs no input gradient. Of
    what our kernels do it knows nothing, so it convolves itself."""
    monkeypatch.setattr("sparse_rl.kernels.native.load", lambda: (0, "XLA"))
    env = {"task": "Breakout-MinAtar"}
    agent = {"name": "ppo", "network": "minatar", "epochs": 1, "minibatches": 1, "num_envs": 100}
    config = make_config(width=64, agent=agent, env=env, log_every=1000, eval_every=1000, env_steps=1000)
    loop, inputs = on_policy(config)
    costs, state = prepare_pack([config]).runs[0].costs, jax.eval_shape(loop.init, inputs)
    picture = experience_of(1000)._replace(
        view=View(jnp.zeros((1000, 400))), action=jnp.zeros(1000, int)
    )
    compiled = jax.jit(loop.agent.update).lower(state.agent, picture, jnp.float32(0), KEY).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None
    assert analysis["flops"] == pytest.approx(costs.flops_per_update, rel=0.3)
