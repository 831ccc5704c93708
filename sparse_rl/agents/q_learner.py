"""What agents share that learn Q(s, a) from a replay buffer and have an actor climb it.

Architecture and optimiser follow SimBa (Lee et al. 2024, arXiv 2410.09754, appendix) and Ma et al. 2025
(arXiv 2506.17204): AdamW; one critic, or the smaller of two (clipped double Q, Fujimoto et al. 2018).

Parameters start pruned and gradients come pruned, so moments, weight decay and the target's moving
average have nothing to move at a pruned place.
"""

import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents.contract import ADAM_TRAFFIC, TARGET_TRAFFIC, Metrics, OffPolicyAgent, RunInputs
from sparse_rl.agents.pruned import Params, Probed, draw_pruned, feature_major, health
from sparse_rl.agents.stepping import begin_one, descend, together
from sparse_rl.diagnostics import global_norm
from sparse_rl.envs import Spec
from sparse_rl.experience import Transition
from sparse_rl.networks import Critic, Wiring, ensemble, wiring_of
from sparse_rl.pruning import apply, apply_weights, weights
from sparse_rl.settings.off_policy import OffPolicyConfig
from sparse_rl.settings.run import RunConfig

Settings = TypeVar("Settings", bound=OffPolicyConfig)


class QState(Protocol):
    """The fields that every such agent's state has."""

    @property
    def actor(self) -> Params: ...
    @property
    def critic(self) -> dict[str, Params]:
        """``{"0": …}`` or ``{"0": …, "1": …}``."""

    @property
    def target(self) -> dict[str, Params]: ...
    @property
    def optimisers(self) -> dict[str, optax.OptState]: ...
    @property
    def supports(self) -> dict[str, Any]:
        """network → supports of its parameters; the target shares the critic's."""

    @property
    def learning_rate(self) -> Array: ...
    def _replace(self, *fields: Any, **changes: Any) -> Self: ...


State = TypeVar("State", bound=QState)


class QLearner(NamedTuple, Generic[Settings]):
    """Static parts."""

    config: Settings
    actor: Any
    """flax module: observations → what the policy is made of."""
    critic: Critic
    discount: float


def gamma_heuristic(interactions_per_episode: float) -> float:
    """γ = clip((L/5 − 1)/(L/5), 0.95, 0.995) for episodes of L interactions (TD-MPC2; SimBa, app.)."""
    fifth = interactions_per_episode / 5.0
    return min(max((fifth - 1.0) / fifth, 0.95), 0.995)


def build(config: RunConfig, env: Spec, settings: Settings, actor: Any) -> QLearner[Settings]:
    """The static parts for one environment; ``config.width`` is the critic's, the actor's follows.

    Args:
        config: of the pack.
        env: the environment.
        settings: of the agent.
        actor: flax module class, made from (kind, width, blocks, action size, feature_major,
            products).
    """
    discount = settings.discount
    if discount is None:
        discount = gamma_heuristic(env.episode_length / config.env.action_repeat)
    kind, width, by_blocks = settings.network, settings.actor_width(config.width), feature_major(config)
    return QLearner(
        settings,
        actor(kind, width, settings.actor_blocks, env.action_size, by_blocks["actor"], config.products),
        Critic(
            kind, config.width, settings.critic_blocks, by_blocks["critic"], products=config.products
        ),
        discount,
    )


def _labels(learner: QLearner[Any]) -> tuple[str, ...]:
    """Of the critics."""
    return ("0", "1") if learner.config.clipped_double_q else ("0",)


def wiring(learner: QLearner[Any]) -> dict[str, Wiring]:
    """network → what its layers read, of all critics together."""
    critics = ensemble(wiring_of(learner.critic), _labels(learner))
    return {"actor": wiring_of(learner.actor), "critic": critics}


def init(
    learner: QLearner[Any], config: RunConfig, env: Spec, key: Array, inputs: RunInputs
) -> dict[str, Any]:
    """The fields of :class:`QState` before the first update."""
    observation, action = jnp.zeros((1, env.observation_size)), jnp.zeros((1, env.action_size))

    def initial(key: Array) -> dict[str, Params]:
        key_actor, key_critic = jax.random.split(key)
        critics = {
            label: learner.critic.init(jax.random.fold_in(key_critic, i), observation, action)["params"]
            for i, label in enumerate(_labels(learner))
        }
        return {"actor": learner.actor.init(key_actor, observation)["params"], "critic": critics}

    pruned, supports = draw_pruned(config, wiring(learner), initial, key, inputs)
    adamw = _adamw(learner, inputs.learning_rate)
    return {
        "actor": pruned["actor"],
        "critic": pruned["critic"],
        "target": jax.tree.map(jnp.copy, pruned["critic"]),
        "optimisers": {name: begin_one(adamw, name, pruned[name], inputs) for name in pruned},
        "supports": supports,
        "learning_rate": jnp.asarray(inputs.learning_rate, jnp.float32),
    }


def _adamw(learner: QLearner[Any], learning_rate: Any) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=learner.config.weight_decay)


def policy(learner: QLearner[Any], actor: Params, state: QState, observation: Array) -> Any:
    """What the actor makes of ``[n, o]``."""
    return apply(learner.actor, actor, state.supports["actor"], observation)


def values(
    learner: QLearner[Any], critics: dict[str, Params], state: QState, observation: Array, action: Array
) -> Array:
    """Q of every critic, whose weights are ready for use: ``[critics, n]``."""
    pairs = ((made, state.supports["critic"][i]) for i, made in critics.items())
    return jnp.stack(
        [apply_weights(learner.critic, made, support, observation, action) for made, support in pairs]
    )


def target_value(learner: QLearner[Any], state: QState, observation: Array, action: Array) -> Array:
    """min Q'(s, a) of the target networks: float32 ``[n]``."""
    target = weights(state.supports["critic"], state.target)
    return jnp.min(values(learner, target, state, observation, action), axis=0)


def made_critics(state: QState) -> tuple[dict[str, Params], Callable[[Any], Any]]:
    """The critics' weights, ready for use, and what turns gradients of these into those of the stored
    ones."""
    return jax.vjp(functools.partial(weights, state.supports["critic"]), state.critic)


def step_actor(
    learner: QLearner[Any], state: State, loss: Callable[[Params], tuple[Array, Any]]
) -> tuple[State, Any, Metrics]:
    """One optimiser step of the actor.

    Args:
        learner, state: before it.
        loss: ``parameters → (loss, anything)``.

    Returns:
        The new state, what the loss returned beside itself, and metrics.
    """
    (value, aside), grads = jax.value_and_grad(loss, has_aux=True)(state.actor)
    adamw, optimisers = _adamw(learner, state.learning_rate), dict(state.optimisers)
    actor, optimisers["actor"] = descend(adamw, together(grads), optimisers["actor"], state.actor)
    metrics = {"loss/actor": value, "grad_norm/actor": global_norm(grads)}
    return state._replace(actor=actor, optimisers=optimisers), aside, metrics


def step_critic(
    learner: QLearner[Any],
    state: State,
    critics: tuple[dict[str, Params], Callable[[Any], Any]],
    batch: Transition,
    target: Array,
) -> tuple[State, Metrics]:
    """One optimiser step of the critics towards the targets, then one of their moving average.

    The loss is the mean over the batch of Σ over critics of (Q − y)².

    Args:
        learner, state: before it.
        critics: of :func:`made_critics`.
        batch: n transitions.
        target: float32 ``[n]``.
    """
    made, to_stored = critics

    def loss(made: dict[str, Params]) -> tuple[Array, Array]:
        q = values(learner, made, state, batch.observation, batch.action)
        return jnp.mean(jnp.sum(jnp.square(q - target), axis=0)), jnp.mean(q)

    (value, mean), grads = jax.value_and_grad(loss, has_aux=True)(made)
    (grads,) = to_stored(grads)
    adamw, optimisers = _adamw(learner, state.learning_rate), dict(state.optimisers)
    critic, optimisers["critic"] = descend(adamw, together(grads), optimisers["critic"], state.critic)
    averaged = optax.incremental_update(critic, state.target, learner.config.target_rate)
    metrics = {"loss/critic": value, "value_mean": mean, "grad_norm/critic": global_norm(grads)}
    return state._replace(critic=critic, target=averaged, optimisers=optimisers), metrics


def diagnose(learner: QLearner[Any], config: RunConfig, state: QState, batch: Transition) -> Metrics:
    """Health of the actor and the critics on a probe batch."""
    critics, supports = state.critic, state.supports["critic"]
    if len(critics) == 1:
        critics, supports = {"": critics["0"]}, {"": supports["0"]}
    seen, taken = batch.observation, batch.action
    actor = Probed(learner.actor, {"": state.actor}, {"": state.supports["actor"]}, (seen,))
    critic = Probed(learner.critic, critics, supports, (seen, taken))
    return health({"actor": actor, "critic": critic}, config.diagnostics)


def agent(
    learner: QLearner[Any],
    config: RunConfig,
    *,
    init: Callable[[Array, RunInputs], Any],
    act: Callable[[Any, Array, Array], Array],
    act_greedily: Callable[[Any, Array], Array],
    update: Callable[[Any, Transition, Array], tuple[Any, Metrics]],
) -> OffPolicyAgent:
    """The functions that the loop drives: an agent's own, and what all have in common."""
    return OffPolicyAgent(
        init=init,
        act=act,
        act_greedily=act_greedily,
        update=jax.jit(update, inline=True),  # a chunk asks for its shapes, and then for itself
        diagnose=functools.partial(diagnose, learner, config),
        parameters=lambda state: {"actor": state.actor, "critic": state.critic},
        supports=lambda state: state.supports,
        # actor: its loss (3) and the next action (1); critic: its loss (3), the target's value (1),
        # and under the actor's loss forward and back to the action (2)
        passes={"actor": 4, "critic": 6},
        traffic={"actor": ADAM_TRAFFIC, "critic": ADAM_TRAFFIC + TARGET_TRAFFIC},
        wiring=wiring(learner),
    )
