"""What static sparsity is measured against: masks that change, and networks that start anew.

An off-policy agent is wrapped: its functions are its own, and now and then, between two updates, its
masks are changed or it is initialised again. Masks stay exact, and what a mask leaves out does not exist
in weights, moments and targets, whatever the method.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import gradients
from sparse_rl.agents.contract import Metrics, Occasional, OffPolicyAgent, RunInputs, Streams
from sparse_rl.diagnostics import ratio
from sparse_rl.experience import Transition
from sparse_rl.kernels.keys import key_of
from sparse_rl.pruning import Change, Masked, dynamic, path_name
from sparse_rl.settings.off_policy import OffPolicyConfig
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

GRADUAL_SPAN = (0.2, 0.8)
"""Shares of the run between which gradual pruning prunes (Graesser et al. 2022, arXiv 2206.10369)."""
GROWTH_STREAM = 0x67726F77
"""Keeps what grows at random apart from the masks that were drawn with the same seed."""


class Compared(NamedTuple):
    """A wrapped agent's state."""

    learner: Any
    """The agent's own."""
    inputs: RunInputs
    """The run's: seeds and final numbers of survivors."""


def _is_leaf(node: Any) -> bool:
    """Of supports, or of what becomes of them."""
    return node is None or isinstance(node, Masked | Change)


def _networks(learner: Any) -> dict[str, Any]:
    return {"actor": learner.actor, "critic": learner.critic}


def _open(supports: Any) -> Any:
    """Supports with nothing left out."""
    return jax.tree.map(jnp.ones_like, supports)


def dense_gradients(
    agent: OffPolicyAgent, learner: Any, batch: Transition, key: Array
) -> dict[str, Any]:
    """network → |gradient|, up to one factor, at every place, pruned or not.

    Pruned weights are 0, so with nothing left out the networks compute the same.
    """
    whole = learner._replace(supports=_open(learner.supports))
    return jax.tree.map(jnp.abs, gradients.of_batch(agent, whole, batch, key))


def _random_scores(learner: Any, key: Array) -> dict[str, Any]:
    leaves, structure = jax.tree.flatten(_networks(learner))
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return dict(jax.tree.unflatten(structure, drawn))


def _kept_only(changes: Any, tree: Any) -> Any:
    """``tree`` with zeros where weights are not kept."""

    def keep(change: Change | None, leaf: Array) -> Array:
        return leaf if change is None else jnp.where(change.kept, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(keep, changes, tree, is_leaf=_is_leaf)


def apply_changes(learner: Any, changes: dict[str, Any]) -> Any:
    """The learner with new masks: weights, both moments and the target follow.

    Args:
        learner: state of an agent with an actor and critics.
        changes: network → pytree of :class:`Change` like its parameters, ``None`` where dense.
    """

    def moments(name: str, state: Any) -> Any:
        held = {m: optax.tree_utils.tree_get(state, m) for m in ("mu", "nu")}
        return optax.tree_utils.tree_set(state, **{m: _kept_only(changes[name], held[m]) for m in held})

    masks = jax.tree.map(lambda c: Masked(c.mask), changes, is_leaf=lambda n: isinstance(n, Change))
    stepped = {name: moments(name, learner.optimisers[name]) for name in changes}
    return learner._replace(
        actor=_kept_only(changes["actor"], learner.actor),
        critic=_kept_only(changes["critic"], learner.critic),
        target=_kept_only(changes["critic"], learner.target),
        optimisers=dict(learner.optimisers) | stepped,
        supports=masks,
    )


def check_changes(pruning: PruningConfig, updates: int) -> None:
    """Raise :class:`ConfigError` if masks would not change, or not become as sparse as they should.

    Gradual pruning must come to its end before the run does; of the others, the first change must come
    while there are changes.
    """
    every = pruning.change_every
    if pruning.method == "gradual":
        last = -(-GRADUAL_SPAN[1] * updates // every) * every  # the first change from there on
        if last >= updates:
            raise ConfigError(
                f"pruning.method=gradual, pruning.change_every={every}: of {updates:,} updates none "
                f"changes masks after {GRADUAL_SPAN[1]:.0%} of them and before the end, so the run "
                f"would not become as sparse as it should; change_every <= "
                f"{max(1, int((1 - GRADUAL_SPAN[1]) * updates) - 1)} does, or more env_steps"
            )
    elif every >= pruning.change_until * updates:
        raise ConfigError(
            f"pruning.method={pruning.method}, pruning.change_every={every}: masks would never change, "
            f"for changes end after {pruning.change_until:g} (pruning.change_until) of {updates:,} "
            "updates; give a smaller change_every, or more env_steps"
        )


class Comparator(NamedTuple):
    """A wrapped agent's static parts."""

    agent: OffPolicyAgent
    pruning: PruningConfig
    updates: int
    """In the whole run."""

    def init(self, key: Array, inputs: RunInputs) -> Compared:
        """The agent's own start; gradual pruning starts dense, with masks that leave nothing out."""
        learner = self.agent.init(key, inputs)
        if self.pruning.method == "gradual":
            nothing = inputs._replace(budgets={name: {} for name in inputs.budgets})
            learner = self.agent.init(key, nothing)._replace(supports=_open(learner.supports))
        return Compared(learner, inputs)

    def _scores(self, state: Compared, batch: Transition, made: Array) -> dict[str, Any]:
        key = jax.random.fold_in(key_of(state.inputs.mask_seed), GROWTH_STREAM)
        key = jax.random.fold_in(key, made)
        if self.pruning.method == "rigl":
            return dense_gradients(self.agent, state.learner, batch, key)
        return _random_scores(state.learner, key)

    def _exchange(self, state: Compared, batch: Transition, made: Array) -> dict[str, Any]:
        pruning, progress = self.pruning, made / self.updates
        share = dynamic.cosine_share(pruning.drop_share, progress, pruning.change_until)

        def rule(support: Masked | None, weights: Array, score: Array) -> Change | None:
            if support is None:
                return None
            return dynamic.exchange(support.mask, weights, score, share)

        networks, scores = _networks(state.learner), self._scores(state, batch, made)
        return jax.tree.map(rule, state.learner.supports, networks, scores, is_leaf=_is_leaf)

    def _shrink(self, state: Compared, made: Array) -> dict[str, Any]:
        progress = made / self.updates

        def rule(name: str, path: Any, support: Masked | None, weights: Array) -> Change | None:
            if support is None:
                return None
            final = state.inputs.budgets[name][path_name(path)]
            count = dynamic.gradual_count(weights.size, final, progress, *GRADUAL_SPAN)
            return dynamic.shrink(support.mask, weights, count)

        return {
            name: jax.tree_util.tree_map_with_path(
                functools.partial(rule, name),
                state.learner.supports[name],
                network,
                is_leaf=_is_leaf,
            )
            for name, network in _networks(state.learner).items()
        }

    def change_masks(self, state: Compared, batch: Transition, made: Array) -> Compared:
        """The method's step after ``made`` updates."""
        if self.pruning.method == "gradual":
            changes = self._shrink(state, made)
        else:
            changes = self._exchange(state, batch, made)
        return state._replace(learner=apply_changes(state.learner, changes))

    def reset(self, state: Compared, batch: Transition, made: Array) -> Compared:
        """All networks, targets and optimisers anew, with the same masks; the replay buffer stays
        (Nikishin et al. 2022, arXiv 2205.07802)."""
        key = jax.random.fold_in(key_of(state.inputs.seed), Streams.RESET)
        return self.init(jax.random.fold_in(key, made), state.inputs)

    def diagnose(self, state: Compared, batch: Transition) -> Metrics:
        """The agent's health, and the share of the masked weights that is there now."""
        metrics = self.agent.diagnose(state.learner, batch)
        for name, supports in state.learner.supports.items():
            masks = jax.tree.leaves(supports)
            if masks:
                alive = sum(jnp.sum(mask, dtype=jnp.int32) for mask in masks)
                metrics[f"density/{name}"] = ratio(alive, sum(mask.size for mask in masks))
        return metrics


def compare(config: RunConfig, agent: OffPolicyAgent, updates: int) -> OffPolicyAgent:
    """The agent as the run's configuration wants it: as it is, or wrapped.

    Args:
        config: of the pack.
        agent: wrapped only if it is one of :class:`OffPolicyConfig`.
        updates: in the whole run.

    Raises:
        ConfigError: masks would not change as they should.
    """
    settings = config.agent
    if not isinstance(settings, OffPolicyConfig):
        return agent
    changing = config.pruning.method != "static" and any(config.sparsities.values())
    if not changing and settings.reset_every is None:
        return agent
    comparator = Comparator(agent, config.pruning, updates)
    if changing:
        check_changes(config.pruning, updates)
        every = config.pruning.change_every
        said = f"masks change every {every:,} updates"
        occasional = Occasional(every, updates, comparator.change_masks, said)
    else:
        every = settings.reset_every or updates
        times = max(updates - 1, 0) // every
        last = updates - times * every
        said = f"networks start anew {times:,} times, the last ones learn for {last:,} updates"
        occasional = Occasional(every, updates, comparator.reset, said)
    return agent._replace(
        init=comparator.init,
        act=lambda state, *seen: agent.act(state.learner, *seen),
        act_greedily=lambda state, *seen: agent.act_greedily(state.learner, *seen),
        update=functools.partial(_update, agent),
        diagnose=comparator.diagnose,
        parameters=lambda state: agent.parameters(state.learner),
        supports=lambda state: agent.supports(state.learner),
        occasional=occasional,
    )


def _update(
    agent: OffPolicyAgent, state: Compared, batch: Transition, key: Array
) -> tuple[Compared, Metrics]:
    learner, metrics = agent.update(state.learner, batch, key)
    return state._replace(learner=learner), metrics
