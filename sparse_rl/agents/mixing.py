"""IQL, VDN and QMIX: teams that learn values from a replay buffer of steps in a row.

The agents of a team share one network Q(s, ·) (:mod:`~sparse_rl.agents.choosing`). In IQL each learns
from its own reward (Tampuu et al. 2017, arXiv 1511.08779). In VDN the team's value is the sum of its
agents' (Sunehag et al. 2018, arXiv 1706.05296), in QMIX a mixer's (Rashid et al. 2018, arXiv
1803.11485), and they learn from what the team earns: :mod:`~sparse_rl.agents.joining`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import apart, choosing, joining
from sparse_rl.agents.contract import (
    ADAM_TRAFFIC,
    Memories,
    Metrics,
    Occasional,
    RecallingAgent,
    RunInputs,
    View,
)
from sparse_rl.agents.joining import Mixing
from sparse_rl.agents.pruned import Params, Probed, draw_pruned, grad_norms, health, scheduled
from sparse_rl.agents.stepping import begin, descend
from sparse_rl.envs import Spec, TeamEnv
from sparse_rl.experience import Steps, episode_buffer, means
from sparse_rl.networks import Mixer, Wiring, empty, wiring_of
from sparse_rl.settings.off_policy import MixingConfig, QmixConfig
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.settings.schema import ConfigError


class MixingState(NamedTuple):
    """Everything it carries from update to update."""

    critic: Params
    """The agents' network."""
    mixer: Params
    """``None`` where there is none."""
    target: dict[str, Params]
    """Of both, by name."""
    optimiser: optax.OptState
    supports: Any
    """The critic's."""
    mixer_supports: Any
    learning_rate: Array
    exploration: Array
    """float32: probability of a random action, set when it acts."""
    shaping: Array
    """float32: weight of what shapes rewards, likewise."""
    updates: Array
    """int32: updates so far."""


def _networks(state: MixingState) -> dict[str, Params]:
    """What is trained, by name."""
    named = {"critic": state.critic, "mixer": state.mixer}
    return {name: params for name, params in named.items() if params is not None}


def _supports(state: MixingState) -> dict[str, Any]:
    named = {"critic": state.supports, "mixer": state.mixer_supports}
    return {name: named[name] for name in _networks(state)}


def _wiring(mixing: Mixing) -> dict[str, Wiring]:
    mixer = {} if mixing.mixer is None else {"mixer": wiring_of(mixing.mixer)}
    return choosing.wiring(mixing.chooser) | mixer


def _init(mixing: Mixing, config: RunConfig, key: Array, inputs: RunInputs) -> MixingState:
    """The state before the first update."""

    def initial(key: Array) -> dict[str, Params]:
        found = {"critic": choosing.initial_critic(mixing.chooser, key)}
        if mixing.mixer is not None:
            nothing = jnp.zeros((1, mixing.agents)), jnp.zeros((1, mixing.central_size))
            found["mixer"] = mixing.mixer.init(jax.random.fold_in(key, 1), *nothing)["params"]
        return found

    labels = {"critic": apart.labels(mixing.chooser.critic)}
    networks, supports = draw_pruned(config, _wiring(mixing), initial, key, inputs, labels)
    learning_rate = jnp.asarray(inputs.learning_rate, jnp.float32)
    return MixingState(
        networks["critic"], networks.get("mixer"), jax.tree.map(jnp.copy, networks),
        begin(choosing.optimiser(mixing.config.max_grad_norm, learning_rate), networks, inputs),
        supports["critic"], supports.get("mixer"),
        learning_rate, jnp.float32(1.0), jnp.float32(0.0), jnp.int32(0),
    )  # fmt: skip


def _update(mixing: Mixing, state: MixingState, batch: Steps, key: Array) -> tuple[MixingState, Metrics]:
    """One optimiser step towards the targets, weighted mean of (Q − y)²."""
    del key  # nothing is drawn
    supports = state.supports, state.mixer_supports

    def together(networks: dict[str, Params], values: Array) -> Array:
        return joining.together(mixing, networks.get("mixer"), supports[1], values, batch)

    later = joining.values(mixing, state.target["critic"], supports[0], batch)
    rewards = joining.rewards(mixing, state.shaping, batch)

    def loss(networks: dict[str, Params]) -> tuple[Array, Array]:
        values = joining.values(mixing, networks["critic"], supports[0], batch)
        best = jnp.argmax(jax.lax.stop_gradient(values), axis=-1)
        following = together(state.target, joining.taken(later, best, batch))
        targets = joining.targets(mixing, rewards, following, batch)
        said = together(networks, joining.taken(values, batch.action, batch))[:-1]
        error = jnp.square(said - jax.lax.stop_gradient(targets.value))
        return means.mean(error, targets.weight), means.mean(said, targets.weight)

    networks = _networks(state)
    (value, mean), grads = jax.value_and_grad(loss, has_aux=True)(networks)
    progress = state.updates.astype(jnp.float32) / mixing.updates
    learning_rate = scheduled(mixing.config, state.learning_rate, progress)
    optimiser = choosing.optimiser(mixing.config.max_grad_norm, learning_rate)
    networks, moments = descend(optimiser, grads, state.optimiser, networks)
    metrics = {"loss/critic": value, "value_mean": mean, "exploration": state.exploration}
    state = state._replace(
        critic=networks["critic"], mixer=networks.get("mixer"), optimiser=moments,
        updates=state.updates + 1,
    )  # fmt: skip
    return state, metrics | grad_norms(grads)


def _renew(mixing: Mixing, state: MixingState, batch: Steps, made: Array) -> MixingState:
    """The target networks a share of the way to those that learn."""
    del batch, made
    rate = mixing.config.target_rate
    return state._replace(target=optax.incremental_update(_networks(state), state.target, rate))


def _diagnose(mixing: Mixing, config: RunConfig, state: MixingState, batch: Steps) -> Metrics:
    """Health of the networks on the first rows of a batch, as far as somebody acts on them."""
    wanted = config.diagnostics.samples(config.width)
    now: Steps = jax.tree.map(lambda x: x[:1], batch)
    counts = ~now.last[0]
    each = jnp.repeat(counts, mixing.agents).astype(jnp.float32)
    if now.weight is not None:
        each = each * now.weight.reshape(-1)
    flat = jax.tree.map(lambda x: x.reshape(len(each), -1), (now.observation, now.memory))
    view, memories = View(flat[0], weight=each), Memories(flat[1])
    if apart.together(mixing.chooser.critic) == 1:
        chosen = means.first_of(jnp.arange(len(each)), each)[:wanted]
        view, memories = jax.tree.map(lambda x: x[chosen], (view, memories))
    found = choosing.diagnose(mixing.chooser, config, state.critic, state.supports, view, memories)
    if mixing.mixer is None:
        return found
    assert now.state is not None
    values = jnp.max(joining.values(mixing, state.critic, state.supports, now), axis=-1)
    values = values if now.weight is None else values * now.weight
    teams = means.first_of(jnp.arange(len(counts)), counts.astype(jnp.float32))[:wanted]
    inputs = values[0][teams], now.state[0][teams]
    mixer = Probed(mixing.mixer, {"": state.mixer}, {"": state.mixer_supports}, inputs)
    return found | health({"mixer": mixer}, config.diagnostics)


def _rows(mixing: Mixing, env: TeamEnv, num_envs: int) -> Any:
    """Shapes of what is kept of an interaction of so many environments: :class:`Steps`."""
    each = (num_envs, mixing.agents)
    memory = jax.eval_shape(lambda: empty(apart.one_of(mixing.chooser.critic), num_envs * mixing.agents))
    array: Any = jax.ShapeDtypeStruct
    flag = array((num_envs,), bool)
    choices = array((*each, env.action_size), bool)
    return Steps(
        observation=array((*each, env.observation_size), jnp.float32),
        state=array((num_envs, mixing.central_size), jnp.float32) if mixing.mixer else None,
        legal=None if env.legal_actions is None else choices,
        weight=array(each, jnp.float32) if env.some_idle else None,
        memory=jax.tree.map(lambda x: array((*each, x.shape[1]), x.dtype), memory),
        action=array(each, jnp.int32),
        reward=array(each, jnp.float32),
        shaping=array(each, jnp.float32) if env.shapes else None,
        first=flag, last=flag, terminated=flag,
    )  # fmt: skip


def _check_samples(config: RunConfig, settings: MixingConfig, updates: int) -> None:
    """Raise :class:`ConfigError` if a sample could not be drawn when the first update is due."""
    random, length = settings.random_of(config.interactions), settings.sequence_length
    held = settings.replay_size // settings.num_envs
    if min(random, held) < length:
        raise ConfigError(
            f"agent.sequence_length={length}: a sample needs as many interactions of an environment, "
            f"and {random:,} are random before the first update (agent.random_interactions, at most a "
            f"tenth of a run), {held:,} are kept (agent.replay_size / agent.num_envs); give a shorter "
            "one, or raise these or env_steps"
        )
    if settings.target_every >= updates:
        raise ConfigError(
            f"agent.target_every={settings.target_every}: of {updates:,} updates none would be made "
            "with target networks that have learned; give less, or more env_steps"
        )


def build(config: RunConfig, env: TeamEnv, updates: int) -> Mixing:
    """The static parts for one team.

    Raises:
        ConfigError: the run is too short for its settings.
    """
    settings = agent_settings(config, MixingConfig)
    _check_samples(config, settings, updates)
    mixer, size = None, 0
    if isinstance(settings, QmixConfig):
        assert env.critic_size is not None
        size = env.critic_size - env.names
        widths = settings.mixer_width(config.width), settings.mixer_hidden(config.width)
        mixer = Mixer(env.agents, *widths)
    chooser = choosing.build(config, env)
    return Mixing(settings, chooser, mixer, size, env.agents, env.shared_reward, updates)


def make(config: RunConfig, env: Spec, updates: int) -> RecallingAgent:
    """Build it for one team.

    Raises:
        ConfigError: the run is too short for its settings.
    """
    assert isinstance(env, TeamEnv)
    mixing = build(config, env, updates)
    settings, chooser = mixing.config, mixing.chooser
    rows = settings.batch_size * (settings.sequence_length + 1)
    said = f"targets renewed every {settings.target_every:,} updates"
    like: Callable[[int], Steps] = functools.partial(_rows, mixing, env)
    return RecallingAgent(
        init=functools.partial(_init, mixing, config),
        act=lambda state: choosing.act(chooser, state.critic, state.supports, state.exploration),
        act_greedily=lambda state: choosing.act_greedily(chooser, state.critic, state.supports),
        begin=lambda n: Memories(empty(apart.one_of(chooser.critic), n)),
        update=jax.jit(functools.partial(_update, mixing), inline=True),  # as in q_learner.py
        diagnose=functools.partial(_diagnose, mixing, config),
        parameters=_networks,
        supports=_supports,
        # the loss (3), and the targets' values (1)
        passes=dict.fromkeys(settings.NETWORKS, 4),
        traffic=dict.fromkeys(settings.NETWORKS, ADAM_TRAFFIC),
        wiring=_wiring(mixing),
        buffer=functools.partial(
            episode_buffer, settings.sequence_length, like, config.env.action_repeat
        ),
        occasional=Occasional(settings.target_every, updates, functools.partial(_renew, mixing), said),
        samples={"critic": rows * env.agents, "mixer": rows}
        | apart.shares("critic", chooser.critic, rows * env.agents),
    )
