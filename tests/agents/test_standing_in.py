"""Whose value a return goes on from where an agent is dead, or waits: a critic never learned of that."""

import dataclasses
from typing import Any

import crew
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL, parts_of

from sparse_rl.agents import View
from sparse_rl.agents.actor_critic import stood_in
from sparse_rl.agents.remembering import step
from sparse_rl.envs import TeamEnv, registry
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import run_config

SAID = [1.5, 2.0, 4.0, 8.0, 16.0, 33.0, 5.0, 6.0, 7.0]
ACTS = [1, 0, 1, 0, 1, 0, 0, 0, 0]


def loop_of(monkeypatch: pytest.MonkeyPatch, env: TeamEnv, name: str = "ippo") -> Any:
    """A small dense run's, and what its agent is before it learned."""
    monkeypatch.setitem(registry.SOURCES, "jaxmarl", lambda task: env)
    asked = {"name": name, **SMALL[name]}
    config = run_config(
        {"agent": asked, "env": {"source": "jaxmarl", "task": "crew"}, "width": 4, "env_steps": 20}
    )
    return prepare_pack([config])


@pytest.mark.parametrize(
    ("shared", "turns", "name", "expected"),
    [
        # (1.5 + 4) / 2 for who lies between; the only one's; nobody is left: nothing
        (True, True, "ippo", [1.5, 2.75, 4.0, 16.0, 16.0, 16.0, 0.0, 0.0, 0.0]),
        (False, False, "ippo", [1.5, 0.0, 4.0, 0.0, 16.0, 0.0, 0.0, 0.0, 0.0]),  # the dead earn no more
        (False, True, "ippo", SAID),  # who waits will earn for itself, and may be who is not here
        (True, True, "mappo", SAID),  # this critic learned of the state from others
    ],
)
def test_those_who_act_stand_in(
    monkeypatch: pytest.MonkeyPatch, shared: bool, turns: bool, name: str, expected: list[float]
) -> None:
    env = dataclasses.replace(crew.crew(shared), turns=turns)
    parts = parts_of(loop_of(monkeypatch, env, name).loop)
    nothing = jnp.zeros((9, 2))
    view = View(nothing, weight=jnp.float32(ACTS))
    np.testing.assert_array_equal(stood_in(parts, jnp.float32(SAID), view), expected)
    assert stood_in(parts, jnp.float32(SAID), view._replace(weight=None)) is not None
    np.testing.assert_array_equal(stood_in(parts, jnp.float32(SAID), View(nothing)), SAID)


def test_returns_go_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop asks for at a rollout's end and at a time-out; values along the way stay."""
    loop, (run,) = loop_of(monkeypatch, crew.crew(shared=True))
    state, parts = loop.agent.init(jax.random.key(1), run.inputs), parts_of(loop)
    seen = jax.random.normal(jax.random.key(2), (6, 2))
    view = View(seen, weight=jnp.float32([1, 1, 0, 0, 1, 0]))
    said, _ = step(parts.critic, state.networks["critic"], state.supports["critic"], (), seen)
    a, b, _, _, e, _ = map(float, said)
    found = loop.agent.value(state)(view, ())
    np.testing.assert_allclose(found, [a, b, (a + b) / 2, e, e, e], rtol=1e-6)
    along, _ = loop.agent.values(state)(view, jnp.zeros((2, 3), bool), ())
    np.testing.assert_allclose(along.reshape(-1), said, rtol=1e-6)
