"""PQN-VDN: parallelised Q-learning (Gallici et al. 2024, arXiv 2407.04811) with the values of a team's
agents summed to that of what they do together (Sunehag et al. 2018, arXiv 1706.05296).

No replay buffer and no target network: many actors, λ-returns, some epochs on each rollout, and layers
that are normed, which is what keeps this stable (§3 there; SimBa's are).

Targets need no code of their own. A λ-return is linear in rewards and values, so that of a team is the
sum of its agents', if each has its share of a reward that all have together.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import choosing
from sparse_rl.agents.batches import shuffled
from sparse_rl.agents.choosing import Chooser, exploration
from sparse_rl.agents.contract import (
    ADAM_TRAFFIC,
    Experience,
    Learned,
    Metrics,
    OnPolicyAgent,
    RunInputs,
)
from sparse_rl.agents.pruned import Params, grad_norms, scheduled
from sparse_rl.agents.remembering import over_pieces
from sparse_rl.agents.stepping import begin_one, descend
from sparse_rl.envs import Spec, TeamEnv
from sparse_rl.experience import means
from sparse_rl.settings.on_policy import PqnVdnConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class PqnState(NamedTuple):
    """Everything it carries from update to update."""

    critic: Params
    optimiser: optax.OptState
    supports: Any
    learning_rate: Array
    exploration: Array
    """float32: probability of a random action."""


class PqnVdn(NamedTuple):
    """The static parts."""

    config: PqnVdnConfig
    chooser: Chooser
    agents: int
    """Of a team."""
    rollouts: int
    """In the whole run."""


def _init(pqn: PqnVdn, config: RunConfig, key: Array, inputs: RunInputs) -> PqnState:
    """The state before the first update."""
    critic, supports = choosing.init(pqn.chooser, config, key, inputs)
    learning_rate = jnp.asarray(inputs.learning_rate, jnp.float32)
    optimiser = choosing.optimiser(pqn.config.max_grad_norm, learning_rate)
    moments = begin_one(optimiser, "critic", critic, inputs)
    return PqnState(critic, moments, supports, learning_rate, jnp.float32(1.0))


def _loss(pqn: PqnVdn, critic: Params, supports: Any, batch: Experience) -> tuple[Array, Metrics]:
    """½ E[(Σ_a R_a − Σ_a Q(s_a, u_a))²], a over the agents of a team that act."""
    memory, seen, weight = batch.memory.acting, batch.view.observation, batch.view.weight
    values = over_pieces(pqn.chooser.critic, critic, supports, memory, batch.first, seen)
    taken = jnp.take_along_axis(values, batch.action[..., None], axis=-1)[..., 0]
    together = means.summed(taken if weight is None else taken * weight, pqn.agents)
    target = means.summed(batch.value_target, pqn.agents)
    loss = 0.5 * jnp.mean(jnp.square(together - target))
    return loss, {"loss/critic": loss, "value_mean": jnp.mean(together)}


def _update(
    pqn: PqnVdn, state: PqnState, experience: Experience, progress: Array, key: Array
) -> tuple[PqnState, Learned]:
    """Some epochs over the rollout, each in minibatches of its own order; a team stays together."""
    learning_rate = scheduled(pqn.config, state.learning_rate, progress)
    optimiser = choosing.optimiser(pqn.config.max_grad_norm, learning_rate)

    def minibatch(state: PqnState, batch: Experience) -> tuple[PqnState, Learned]:
        (_, metrics), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
            pqn, state.critic, state.supports, batch
        )
        critic, moments = descend(optimiser, grads, state.optimiser, state.critic)
        metrics |= grad_norms({"critic": grads}) | {"exploration": state.exploration}
        return state._replace(critic=critic, optimiser=moments), Learned(metrics, jnp.int32(1))

    def epoch(state: PqnState, key: Array) -> tuple[PqnState, Learned]:
        return jax.lax.scan(
            minibatch, state, shuffled(experience, key, pqn.config.minibatches, pqn.agents)
        )

    state, learned = jax.lax.scan(epoch, state, jax.random.split(key, pqn.config.epochs))
    following = exploration(pqn.config, progress + 1.0 / pqn.rollouts)  # of the rollout to come
    return state._replace(exploration=following), jax.tree.map(jnp.sum, learned)


def make(config: RunConfig, env: Spec) -> OnPolicyAgent:
    """Build it for one team."""
    settings, chooser = agent_settings(config, PqnVdnConfig), choosing.build(config, env)
    pqn = PqnVdn(settings, chooser, env.agents, config.env_steps // config.frames_per_round)
    made = choosing.agent(
        chooser,
        config,
        env,
        init=functools.partial(_init, pqn, config),
        goes_on_from=lambda state: state.critic,
        update=functools.partial(_update, pqn),
        epochs=settings.epochs,
        minibatches=settings.minibatches,
        traffic=ADAM_TRAFFIC,
    )
    shared = isinstance(env, TeamEnv) and env.shared_reward
    return made._replace(summed=env.agents, share=1.0 / env.agents if shared else 1.0)
