"""How large what each layer makes is, before and after the first updates: a coordinate check (Yang et
al. 2022, arXiv 2203.03466, app. D.1)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, RunInputs, Streams
from sparse_rl.loops.learning import Seen
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.loops.recalling import RecallingLoop
from sparse_rl.loops.replaying import interaction_keys

SIZE = "preactivation/"
"""Begins the names of what is measured (:func:`sparse_rl.diagnostics.preactivations`)."""


class Coordinates(NamedTuple):
    """A run's static parts for the check. All methods are pure.

    A loop with a replay buffer fills it with its random interactions and then only learns, so that every
    width sees the same; the others make a rollout for each update. What is measured is measured on the
    same samples each time: of the buffer, or of the first rollout.
    """

    loop: OffPolicyLoop | RecallingLoop | OnPolicyLoop
    updates: int
    """To the end of the check."""

    @property
    def each(self) -> int:
        """Optimiser steps that are made at once."""
        agent = self.loop.agent
        return getattr(agent, "updates_per_rollout", 1)

    def rows(self, inputs: RunInputs) -> Metrics:
        """Name → float32 ``[updates + 1]``: before the first update and after each.

        Args:
            inputs: of the run.
        """
        state = self.loop.init(inputs)
        if isinstance(self.loop, OnPolicyLoop):
            return self._on_policy(self.loop, state)
        return self._from_replay(self.loop, state)

    def _from_replay(self, loop: OffPolicyLoop | RecallingLoop, state: Any) -> Metrics:
        learning = loop.replaying if isinstance(loop, RecallingLoop) else loop.learning

        def interact(i: Array, state: Any) -> Any:
            return loop.interact(state, i, interaction_keys(state.key, i))[0]

        state = jax.lax.fori_loop(0, learning.schedule.random_interactions, interact, state)
        key = jax.random.fold_in(state.key, Streams.PROBE)
        probe = learning.batch(state, key, loop.config.diagnostics.max_samples)

        def update(state: Any, i: Array) -> tuple[Any, Metrics]:
            found = _sizes(loop.agent.diagnose(state.agent, probe))
            return learning.update(state, jax.random.fold_in(state.key, i))[0], found

        return jax.lax.scan(update, state, jnp.arange(self.updates + 1))[1]

    def _on_policy(self, loop: OnPolicyLoop, state: Any) -> Metrics:
        learning = loop.learning
        seen: Seen = loop.iterate(state, jnp.int32(0))[2]
        together = loop.agent.together
        wanted = min(loop.config.diagnostics.max_samples, len(seen.view.observation))
        chosen = jax.tree.map(lambda x: x[: wanted // together * together], seen)
        view, memories = learning.see(state, chosen.view), chosen.memories

        def update(state: Any, i: Array) -> tuple[Any, Metrics]:
            found = _sizes(loop.agent.diagnose(state.agent, view, memories))
            return loop.iterate(state, i)[0], found

        return jax.lax.scan(update, state, jnp.arange(self.updates + 1))[1]


def _sizes(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if name.startswith(SIZE)}
