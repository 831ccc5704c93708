"""An agent that learns nothing and writes down what it is given, for tests of what drives agents."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import OffPolicyAgent
from sparse_rl.agents.contract import Occasional
from sparse_rl.experience import Transition

ROOM = 200
"""Updates that are written down."""
TREMBLE = 0.01
"""Actions carry noise, uniform in [0, this)."""


class Diary(NamedTuple):
    """What was given so far."""

    updates: Array
    batches: Transition
    """Of each update: ``[ROOM, batch, …]``."""
    keys: Array
    """uint32 ``[ROOM, 2]``: of each update."""
    changes: Array
    """int32: how often something happened between updates."""
    made: Array
    """int32 ``[ROOM]``: updates before each of these."""
    change_rewards: Array
    """float32 ``[ROOM, batch]``: of the batch that each was given."""


def act_greedily(state: Diary, seen: Array) -> Array:
    """Tells what is seen; there are two actions."""
    return 0.5 * jnp.tanh(seen[:, :2])


def _act(state: Diary, seen: Array, key: Array) -> Array:
    return act_greedily(state, seen) + TREMBLE * jax.random.uniform(key, (len(seen), 2))


def _update(state: Diary, batch: Transition, key: Array) -> tuple[Diary, dict[str, Array]]:
    i = state.updates
    after = state._replace(
        updates=i + 1,
        batches=jax.tree.map(lambda held, new: held.at[i].set(new), state.batches, batch),
        keys=state.keys.at[i].set(jax.random.key_data(key)),
    )
    return after, {"loss/critic": jnp.mean(batch.reward), "value_mean": 3.0 + i}


def _change(state: Diary, batch: Transition, made: Array) -> Diary:
    i = state.changes
    return state._replace(
        changes=i + 1,
        made=state.made.at[i].set(made),
        change_rewards=state.change_rewards.at[i].set(batch.reward),
    )


def diarist(batch_size: int, every: int, total: int) -> OffPolicyAgent:
    """The agent, for three observations and two actions; something happens to it now and then."""

    def init(key: Array, inputs: Any) -> Diary:
        zeros = jnp.zeros((ROOM, batch_size))
        seen, action = jnp.zeros((*zeros.shape, 3)), jnp.zeros((*zeros.shape, 2))
        batches = Transition(seen, action, zeros, seen, zeros.astype(bool))
        keys, none = jnp.zeros((ROOM, 2), jnp.uint32), jnp.int32(0)
        return Diary(none, batches, keys, none, jnp.zeros(ROOM, jnp.int32), zeros)

    return OffPolicyAgent(
        init=init,
        act=_act,
        act_greedily=act_greedily,
        update=_update,
        diagnose=lambda state, batch: {"probe": batch},
        parameters=lambda state: {},
        supports=lambda state: {},
        passes={},
        traffic={},
        wiring={},
        occasional=Occasional(every, total, _change, "something happens"),
    )
