"""AZOPG's loop on the simulated clock: what its rows say of a mask, a clock and a target, by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.loops.zero_order.arrivals import durations
from sparse_rl.loops.zero_order.loop import NEVER, ZeroOrderLoop, mask_of
from sparse_rl.loops.zero_order.master import MasterLoop, _Live
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.simulators import plants


def config_of(**agent: Any) -> RunConfig:
    """Thirty estimates of three workers for three masses, half of whose gain is free; a row for each
    six."""
    settings = {"name": "azopg", "learning_rate": 0.015, "workers": 3, "target": 0.6, **agent}
    return run_config({
        "agent": settings | {"learning_rate_over": "free_entries"},
        "env": {"source": "lqr", "task": "chain"},
        "width": 3, "sparsity": 0.5, "seed": 2, "env_steps": 60, "log_every": 12, "eval_every": 60,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "deviation"), [("constant", 0.0), ("exponential", 1.0), ("lognormal", np.sqrt(np.e - 1))]
)
def test_an_estimate_takes_a_unit_of_time_on_average(kind: str, deviation: float) -> None:
    """With the deviations of these distributions; other seeds, other durations."""
    n = 40_000
    took = durations(kind, 3, n)
    assert took.mean() == pytest.approx(1.0, abs=5 * deviation / np.sqrt(n) + 1e-12)
    assert took.std() == pytest.approx(deviation, rel=0.1, abs=1e-12)
    assert (took != durations(kind, 4, n)).any() == (deviation > 0)


def test_a_row_says_what_the_oracle_says_of_the_gain_and_what_the_clock_said() -> None:
    """Five rows of six estimates: their clock, their delays, the gap of the mask's own optimum, and
    when the target was met."""
    pack = prepare_pack([config_of()])
    loop, inputs = pack.loop, pack.runs[0].inputs
    assert isinstance(loop, ZeroOrderLoop)
    state, chunk, plant = loop.init(inputs), jax.jit(loop.chunk), plants.chain(3)
    mask, events = mask_of(loop.agent, state.agent), inputs.drawn.arrivals
    assert mask.sum() == 9
    best, start = plants.masked_optimum(plant, mask)[1], plants.cost(plant, np.zeros((3, 6)))
    gaps = []
    for first in range(0, 30, 6):
        before = np.asarray(loop.agent.gain(*state.agent))
        state, row = chunk(jnp.int32(first), state)
        gain = np.asarray(loop.agent.gain(*state.agent), float)
        gaps.append((plants.cost(plant, gain) - best) / (start - best))
        assert float(row["cost_gap"]) == pytest.approx(gaps[-1], rel=1e-3)
        assert float(row["clock_time"]) == pytest.approx(float(events.time[first + 5]))
        assert float(row["delay_mean"]) == pytest.approx(np.mean(events.delay[first : first + 6]))
        moved = np.linalg.norm(gain - before) * 9 / 0.015 / 6
        assert moved <= float(row["grad_norm/actor"]) * 1.001 < 40 * moved
        structural = best / plants.optimum(plant)[1] - 1.0
        assert float(row["structural_gap"]) == pytest.approx(structural, rel=1e-4)
    reached = float(row["updates_to_target"])
    crossed = next(i for i, gap in enumerate(gaps) if gap <= 0.6)
    assert 0 < crossed < 5
    assert 6 * crossed < reached <= 6 * (crossed + 1)
    assert float(row["time_to_target"]) == pytest.approx(float(events.time[int(reached) - 1]))
    found = loop.evaluate(jnp.int32(0), state)
    p = plants.cost_matrix(plant, gain)
    assert float(found["return_mean"]) == pytest.approx(-np.trace(p), rel=1e-4)
    assert float(found["return_std"]) == pytest.approx(np.sqrt(2 * np.trace(p @ p)), rel=1e-4)
    starts = np.random.default_rng(0).standard_normal((40_000, 6))
    drawn = np.einsum("ni,ij,nj->n", starts, p, starts)
    assert float(found["return_std"]) == pytest.approx(drawn.std(), rel=0.03)


def test_the_master_of_real_workers_takes_the_same_steps() -> None:
    """0.015 over nine free entries; the target leaves 60 % of the gap; failures move nothing."""
    pack = prepare_pack([config_of(clock="real")])
    loop, inputs = pack.loop, pack.runs[0].inputs
    assert isinstance(loop, MasterLoop)
    state = loop.init(inputs)
    live, plant = _Live(loop, state), plants.chain(3)
    mask = mask_of(loop.agent, state.agent)
    best, start = plants.masked_optimum(plant, mask)[1], plants.cost(plant, np.zeros((3, 6)))
    assert live.goal == pytest.approx(best + 0.6 * (start - best), rel=1e-6)
    estimate = np.arange(18.0) - 4.0
    live.apply(estimate)
    np.testing.assert_allclose(live.gain, -0.015 / 9 * estimate.reshape(3, 6))
    live.apply(np.full(18, np.nan))
    np.testing.assert_allclose(live.gain, -0.015 / 9 * estimate.reshape(3, 6))
    assert live.failures == 1
    assert live.norms == pytest.approx(np.linalg.norm(estimate))
    live.gain = np.zeros((3, 6))
    live.check(4, 2.5)
    assert live.reached == NEVER
    live.gain = plants.masked_optimum(plant, mask)[0]
    live.check(7, 3.5)
    live.check(9, 4.5)
    assert (live.reached, live.reached_at) == (7, 3.5)
