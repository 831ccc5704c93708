"""Linear-quadratic regulators: known values, scipy beside XLA, autodiff beside both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs.lqr import FORCE, cost, cost_matrix
from sparse_rl.settings.envs import build_env
from sparse_rl.simulators import plants
from sparse_rl.simulators.plant_worker import Job, exact_costs, simulated_cost

TASKS = pytest.mark.parametrize("task", sorted(plants.PLANTS))


def a_gain(plant: plants.Plant) -> np.ndarray:
    """Between none and the best, and no zero in it."""
    best, _ = plants.optimum(plant)
    return np.asarray(0.5 * best + 0.05 * np.random.default_rng(0).standard_normal(best.shape))


def job_of(plant: plants.Plant) -> Job:
    """A worker's, with all entries free."""
    free = np.ones(plant.b.shape[::-1], bool)
    return Job(plant.a, plant.b, plant.step, free, 1e-3, True, "compute", "constant", 0.02, [0])


def test_one_mass_by_hand() -> None:
    """dx = v, dv = −2x − 2v + u without force: P = [[1.25, .25], [.25, .375]] solves AᵀP + PA + I = 0.

    AᵀP + PA: (1,1) −4·p12 = −1; (2,2) 2·p12 − 4·p22 = −1; (1,2) p11 − 2·p12 − 2·p22 = 0.
    """
    plant = plants.chain(1)
    np.testing.assert_array_equal(plant.a, [[0, 1], [-2, -2]])
    p = plants.cost_matrix(plant, np.zeros((1, 2)))
    np.testing.assert_allclose(p, [[1.25, 0.25], [0.25, 0.375]], atol=1e-12)


@pytest.mark.parametrize(
    ("masses", "start", "best"), [(2, 35 / 9, 3.4343735693), (4, 11.8, 7.3111140407)]
)
def test_check_values(masses: int, start: float, best: float) -> None:
    plant = plants.chain(masses)
    zero = np.zeros((masses, 2 * masses))
    assert plants.cost(plant, zero) == pytest.approx(start, rel=1e-9)
    gain, value = plants.optimum(plant)
    assert value == pytest.approx(best, rel=1e-9)
    assert plants.cost(plant, gain) == pytest.approx(best, rel=1e-9)
    with jax.enable_x64(True):
        assert cost(plant, jnp.asarray(zero)) == pytest.approx(start, rel=1e-9)
        assert cost(plant, jnp.asarray(gain)) == pytest.approx(best, rel=1e-9)
    # In the arithmetic of training:
    assert float(cost(plant, jnp.asarray(gain, jnp.float32))) == pytest.approx(best, rel=1e-5)


@TASKS
def test_scipy_and_xla_agree_and_the_gradient_is_that_of_autodiff(task: str) -> None:
    plant = plants.PLANTS[task](4)
    gain = a_gain(plant)
    value, gradient = plants.cost_and_gradient(plant, gain)
    with jax.enable_x64(True):
        p, settles = cost_matrix(plant, jnp.asarray(gain))
        assert bool(settles)
        np.testing.assert_allclose(p, plants.cost_matrix(plant, gain), rtol=1e-10, atol=1e-12)
        traced, by_autodiff = jax.value_and_grad(lambda k: cost(plant, k))(jnp.asarray(gain))
        np.testing.assert_allclose(by_autodiff, gradient, rtol=1e-9, atol=1e-9 * abs(gradient).max())
    assert float(traced) == pytest.approx(value, rel=1e-11)


@TASKS
def test_the_optimum_has_no_gradient_and_is_the_masked_one_of_a_full_mask(task: str) -> None:
    plant = plants.PLANTS[task](3)
    gain, best = plants.optimum(plant)
    np.testing.assert_allclose(plants.cost_and_gradient(plant, gain)[1], 0.0, atol=1e-9)
    full, value = plants.masked_optimum(plant, np.ones_like(gain, bool))
    assert value == pytest.approx(best, rel=1e-9)
    np.testing.assert_allclose(full, gain, atol=1e-4)


def test_the_masked_optimum_keeps_to_its_mask_and_has_no_gradient_inside() -> None:
    plant = plants.chain(4)
    places = np.arange(4)
    near = abs(places[:, None] - places) <= 1
    mask = np.hstack([near, near])
    gain, value = plants.masked_optimum(plant, mask)
    assert (gain[~mask] == 0.0).all()
    gradient = plants.cost_and_gradient(plant, gain)[1]
    np.testing.assert_allclose(gradient[mask], 0.0, atol=1e-4)
    assert abs(gradient[~mask]).max() > 1e-3
    assert plants.optimum(plant)[1] < value < plants.cost(plant, np.zeros_like(gain))


@TASKS
def test_a_gain_that_is_not_stabilising_costs_infinitely_much(task: str) -> None:
    plant = plants.PLANTS[task](2)
    bad = np.full((2, 4), -30.0)
    assert not plants.is_stabilising(plant, bad)
    assert plants.cost(plant, bad) == np.inf
    assert cost(plant, jnp.asarray(bad, jnp.float32)) == jnp.inf
    assert not plants.is_stabilising(plant, np.full((2, 4), np.nan))


@pytest.mark.parametrize(("task", "masses"), [("chain", 3), ("chain_discrete", 32), ("chain", 80)])
def test_long_chains_come_to_rest_late_and_cost_what_they_cost(task: str, masses: int) -> None:
    """Without force, in the arithmetic of training and in a worker's."""
    plant = plants.PLANTS[task](masses)
    zero = np.zeros((masses, 2 * masses))
    exact = plants.cost_matrix(plant, zero)
    found = float(jax.jit(lambda k: cost(plant, k))(jnp.zeros(zero.shape)))
    assert found == pytest.approx(np.trace(exact), rel=1e-3)
    x0 = np.random.default_rng(1).standard_normal(2 * masses)
    assert exact_costs(job_of(plant), zero, x0) == pytest.approx(x0 @ exact @ x0, rel=1e-9)


@TASKS
def test_a_gain_that_hardly_stabilises_costs_what_it_costs(task: str) -> None:
    """One mass pushed out by as much as its spring pulls it back, but for a thousandth of it."""
    plant = plants.PLANTS[task](1)
    slow = np.array([[-1.999, 0.0]])
    exact = plants.cost(plant, slow)
    assert np.isfinite(exact)
    with jax.enable_x64(True):
        assert float(cost(plant, jnp.asarray(slow))) == pytest.approx(exact, rel=1e-6)
        beyond = float(cost(plant, jnp.array([[-2.001, 0.0]])))
    assert beyond == jnp.inf
    assert not plants.is_stabilising(plant, np.array([[-2.001, 0.0]]))


def test_a_simulated_rollout_goes_on_until_the_plant_is_at_rest() -> None:
    plant = plants.chain_discrete(16)  # 30 s are not half of it
    zero, x0 = np.zeros((16, 32)), np.random.default_rng(0).standard_normal(32)
    exact = x0 @ plants.cost_matrix(plant, zero) @ x0
    assert simulated_cost(job_of(plant), zero, x0) == pytest.approx(exact, rel=2e-3)
    assert simulated_cost(job_of(plant), np.full((16, 32), -30.0), x0) == np.inf


def test_a_mask_without_entries_has_the_cost_of_no_force_and_nothing_to_learn() -> None:
    plant, none = plants.chain(4), np.zeros((4, 8), bool)
    gain, value = plants.masked_optimum(plant, none)
    np.testing.assert_array_equal(gain, none)
    assert value == pytest.approx(11.8)
    assert plants.flow_time(plant, none, value, 0.01) == 0.0


def test_a_flow_that_never_gets_there_takes_for_ever() -> None:
    plant, free = plants.chain(2), np.ones((2, 4), bool)
    # descent in steps of 0.001 takes 2,334 of them
    assert plants.flow_time(plant, free, plants.optimum(plant)[1], 0.01) == pytest.approx(
        2.334, rel=1e-3
    )
    assert plants.flow_time(plant, free, 1.0, 0.01) == np.inf  # the best there is costs 3.43
    assert np.isnan(plants.flow_time(plant, np.ones((25, 50), bool), 1.0, 0.01))


def test_the_discrete_plant_is_the_continuous_one_in_small_steps() -> None:
    """exp(hA) = I + hA + O(h²); the costs differ by about h/2 · E|x0|², the first step's share."""
    discrete, plant = plants.chain_discrete(2), plants.chain(2)
    h = plants.STEP_SECONDS
    np.testing.assert_allclose(discrete.a, np.eye(4) + h * plant.a, atol=10 * h**2)
    np.testing.assert_allclose(discrete.b, h * plant.b, atol=h**2)
    zero = np.zeros((2, 4))
    assert plants.cost(discrete, zero) - plants.cost(plant, zero) == pytest.approx(h / 2 * 4, rel=0.1)


def test_episodes_cost_what_the_oracle_says() -> None:
    """Feedback in steps, from one state: the rewards of a long episode sum to −x0ᵀPx0."""
    config = build_env({"source": "lqr", "task": "chain_discrete", "masses": 2})
    env = envs.make(config.source, config.task, **config.options)
    assert isinstance(env, envs.Env)
    assert (env.observation_size, env.action_size) == (4, 2)
    plant = plants.chain_discrete(2)
    gain, _ = plants.optimum(plant)
    x0 = jnp.array([0.3, -0.2, 0.1, 0.4])

    def step(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        x, seen = env.step(jax.random.key(0), x, -jnp.asarray(gain, jnp.float32) @ x / FORCE)
        return x, seen.reward

    _, rewards = jax.lax.scan(step, x0, length=400)
    expected = x0 @ plants.cost_matrix(plant, gain) @ x0
    assert float(jnp.sum(rewards)) == pytest.approx(-float(expected), rel=1e-4)


def test_an_unknown_plant_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of chain, chain_discrete"):
        envs.make("lqr", "pendulum")


def test_the_flow_takes_as_long_as_small_exact_steps() -> None:
    plant, mask = plants.chain(2), np.array([[1, 0, 1, 0], [0, 1, 0, 1]], bool)
    _, best = plants.masked_optimum(plant, mask)
    start = plants.cost(plant, np.zeros(mask.shape))
    gain, steps, eta = np.zeros(mask.shape), 0, 2e-3
    while plants.cost(plant, gain) - best > 0.01 * (start - best):
        gain, steps = gain - eta * mask * plants.cost_and_gradient(plant, gain)[1], steps + 1
    assert plants.flow_time(plant, mask, best, 0.01) == pytest.approx(eta * steps, rel=0.01)
