"""Stream AC(λ) (Elsayed et al. 2024, arXiv 2410.14606, alg. 7): an actor and a critic that learn from
each transition once, where it happens.

The policy climbs log π(a|s) + τ sign(δ) H(π(·|s)) along its own trace, so that the bonus is for entropy
whatever the sign of the TD error; the value climbs V(s). Continuous actions are a Gaussian whose
deviation is the softplus of a head; discrete ones are drawn from logits. A termination is worth nothing
more, and where time runs out the successor is worth its value: the public code takes both for a
termination.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import streaming
from sparse_rl.agents.actions import Actions, actions_of
from sparse_rl.agents.contract import Happened, Metrics, StreamingAgent
from sparse_rl.agents.streaming import Streamer, StreamState
from sparse_rl.envs import Spec
from sparse_rl.networks import StreamNetwork
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.settings.streaming import StreamAcConfig

Heads = dict[str, Array]
SMALL = -15.0
"""Below this the logarithm of a softplus is its argument, in float32."""


class StreamAc(NamedTuple):
    """Static parts."""

    config: StreamAcConfig
    streamer: Streamer
    actions: Actions


def _policy(heads: Heads) -> Array | tuple[Array, Array]:
    """What actions are drawn from, of n samples: logits, or mean and log standard deviation."""
    if "logits" in heads:
        return heads["logits"]
    raw = heads["deviation"]
    log_std = jnp.where(raw < SMALL, raw, jnp.log(jax.nn.softplus(jnp.maximum(raw, SMALL))))
    return heads["mean"], log_std


def _act(ac: StreamAc, state: StreamState, seen: Array, progress: Array, key: Array) -> Array:
    del progress
    return ac.actions.sample(_policy(streaming.say(ac.streamer, state, "actor", seen)), key)


def _act_greedily(ac: StreamAc, state: StreamState, seen: Array) -> Array:
    return ac.actions.mode(_policy(streaming.say(ac.streamer, state, "actor", seen)))


def _ascent(ac: StreamAc, error: Array, action: Array, heads: Heads) -> tuple[Array, Array]:
    """log π(a|s) + τ sign(δ) H(π(·|s)) of one sample, and H."""
    policy = _policy(heads)
    entropy = ac.actions.entropy(policy)[0]
    bonus = ac.config.entropy_coefficient * jnp.sign(error) * entropy
    return ac.actions.log_prob(policy, action)[0] + bonus, entropy


def _divergence(before: Heads, after: Heads) -> Array:
    """KL(π‖π') of one sample's policies."""
    if "logits" not in before:
        (mean, log_std), (mean_new, log_std_new) = _policy(before), _policy(after)
        spread = jnp.exp(2.0 * (log_std - log_std_new))
        shift = jnp.square((mean - mean_new) * jnp.exp(-log_std_new))
        return jnp.sum(log_std_new - log_std + 0.5 * (spread + shift - 1.0))
    log_probs, changed = (jax.nn.log_softmax(heads["logits"]) for heads in (before, after))
    return jnp.sum(jnp.exp(log_probs) * (log_probs - changed))


def _update(
    ac: StreamAc, state: StreamState, happened: Happened, measured: Array
) -> tuple[StreamState, Metrics, Metrics]:
    """One step of both networks."""
    streamer, seen = ac.streamer, happened.observation
    both = jnp.concatenate([seen, happened.next_observation])
    valued = streaming.look(streamer, state, "critic", both)
    value, following = valued.heads["value"][:, 0]
    worth = jnp.where(happened.terminated[0], 0.0, following)
    error = happened.reward[0] + ac.config.discount * worth - value
    acted = streaming.look(streamer, state, "actor", seen)
    ascends = functools.partial(_ascent, ac, error, happened.action)
    (_, entropy), by_heads = jax.value_and_grad(ascends, has_aux=True)(acted.heads)
    ascents = {
        "actor": (acted, jax.tree.map(lambda d: d[0], by_heads)),
        "critic": (valued, {"value": jnp.ones(1)}),
    }
    after, metrics = streaming.advance(streamer, state, error, ascents, happened.ended[0])

    def found() -> Metrics:
        now = streaming.say(streamer, after, "critic", seen)["value"][0, 0]
        policy = streaming.say(streamer, after, "actor", seen)
        return {
            **streaming.removed(value, now, error),
            "policy_kl": _divergence(acted.heads, policy),
        }

    metrics |= {"value_mean": value, "entropy": entropy}
    return after, metrics, streaming.measure(measured, found)


def make(config: RunConfig, env: Spec) -> StreamingAgent:
    """Build Stream AC(λ) for one environment; ``config.width`` is the critic's, the actor's follows."""
    settings = agent_settings(config, StreamAcConfig)
    a, kind = env.action_size, settings.network
    heads = (("logits", a),) if env.discrete else (("mean", a), ("deviation", a))
    networks = {
        "actor": StreamNetwork(kind, settings.actor_width(config.width), heads, env.picture),
        "critic": StreamNetwork(kind, config.width, (("value", 1),), env.picture),
    }
    streamer = Streamer(settings, networks, streaming.sees(config, env.observation_size))
    ac = StreamAc(settings, streamer, actions_of(env))
    return streaming.agent(
        streamer,
        config,
        act=functools.partial(_act, ac),
        act_greedily=functools.partial(_act_greedily, ac),
        update=functools.partial(_update, ac),
    )
