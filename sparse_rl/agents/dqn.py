"""n-step deep Q-learning on parallel actors (Mnih et al. 2016, arXiv 1602.01783, Algorithm S2, in the
synchronous framework of Clemente et al. 2017, arXiv 1705.04862, §3).

DQN (Mnih et al. 2015) with many actors in place of a replay buffer: ε-greedy rollouts, n-step targets
that start from a target network's largest value, one update on each rollout. Off-policy and value-based,
on the loop that PPO and PAAC run on.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import choosing
from sparse_rl.agents.choosing import Chooser, exploration
from sparse_rl.agents.contract import (
    ADAM_TRAFFIC,
    TARGET_TRAFFIC,
    Experience,
    Learned,
    Metrics,
    OnPolicyAgent,
    RunInputs,
)
from sparse_rl.agents.pruned import Params, grad_norms, scheduled
from sparse_rl.agents.remembering import over_pieces
from sparse_rl.agents.stepping import begin_one, descend
from sparse_rl.envs import Spec
from sparse_rl.settings.on_policy import DqnConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class DqnState(NamedTuple):
    """Everything DQN carries from update to update."""

    critic: Params
    target: Params
    optimiser: optax.OptState
    supports: Any
    """Of the critic's parameters; the target shares them."""
    learning_rate: Array
    exploration: Array
    """float32: probability of a random action."""


class Dqn(NamedTuple):
    """DQN's static parts."""

    config: DqnConfig
    chooser: Chooser
    rollouts: int
    """In the whole run."""


def _optimiser(dqn: Dqn, learning_rate: Any) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(dqn.config.max_grad_norm), optax.adam(learning_rate))


def _init(dqn: Dqn, config: RunConfig, key: Array, inputs: RunInputs) -> DqnState:
    """The state before the first update."""
    critic, supports = choosing.init(dqn.chooser, config, key, inputs)
    learning_rate = jnp.asarray(inputs.learning_rate, jnp.float32)
    return DqnState(
        critic,
        jax.tree.map(jnp.copy, critic),
        begin_one(_optimiser(dqn, learning_rate), "critic", critic, inputs),
        supports,
        learning_rate,
        jnp.float32(1.0),
    )


def _loss(dqn: Dqn, critic: Params, supports: Any, batch: Experience) -> tuple[Array, Metrics]:
    """½ E[(R − Q(s, a))²]."""
    memory, seen = batch.memory.acting, batch.view.observation
    values = over_pieces(dqn.chooser.critic, critic, supports, memory, batch.first, seen)
    taken = jnp.take_along_axis(values, batch.action[..., None], axis=-1)[..., 0]
    loss = 0.5 * jnp.mean(jnp.square(taken - batch.value_target))
    return loss, {"loss/critic": loss, "value_mean": jnp.mean(taken)}


def _update(
    dqn: Dqn, state: DqnState, experience: Experience, progress: Array, key: Array
) -> tuple[DqnState, Learned]:
    """One optimiser step on the whole rollout, then one of the target's moving average."""
    del key  # nothing is drawn
    (_, metrics), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
        dqn, state.critic, state.supports, experience
    )
    optimiser = _optimiser(dqn, scheduled(dqn.config, state.learning_rate, progress))
    critic, moments = descend(optimiser, grads, state.optimiser, state.critic)
    metrics |= grad_norms({"critic": grads}) | {"exploration": state.exploration}
    after = state._replace(
        critic=critic,
        target=optax.incremental_update(critic, state.target, dqn.config.target_rate),
        optimiser=moments,
        exploration=exploration(dqn.config, progress + 1.0 / dqn.rollouts),  # of the rollout to come
    )
    return after, Learned(metrics, jnp.int32(1))


def make(config: RunConfig, env: Spec) -> OnPolicyAgent:
    """Build DQN for one environment."""
    settings, chooser = agent_settings(config, DqnConfig), choosing.build(config, env)
    dqn = Dqn(settings, chooser, config.env_steps // config.frames_per_round)
    return choosing.agent(
        chooser,
        config,
        env,
        init=functools.partial(_init, dqn, config),
        goes_on_from=lambda state: state.target,
        update=functools.partial(_update, dqn),
        epochs=1,
        minibatches=1,
        traffic=ADAM_TRAFFIC + TARGET_TRAFFIC,
    )
