"""What a trained agent can still learn, and how its gradients and its policy hang together.

All functions are pure and take the state that a run ended with, its replay buffer included. Nothing
interacts: whatever is retrained learns from the same experience, with the same draws.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, RunInputs, Streams, gradients
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.replaying import RunState
from sparse_rl.pruning import path_name


def _of(network: str, name: str) -> bool:
    own = ("critic/", "target/") if network == "critic" else (f"{network}/",)
    return name.startswith((*own, f"optimisers/{network}/"))


def _last(name: str) -> bool:
    """Whether a leaf belongs to the layers after a trunk; the optimiser's step count does not."""
    network = _of("actor", name) or _of("critic", name)
    return network and "trunk/" not in name and not name.endswith("/count")


TREATMENTS: dict[str, Callable[[str], bool]] = {
    "none": lambda name: False,
    "last layers": _last,
    "actor": lambda name: _of("actor", name),
    "critic": lambda name: _of("critic", name),
    "both": lambda name: _of("actor", name) or _of("critic", name),
}
"""What starts anew → whether a leaf of the agent's state, by its path, belongs to it: weights,
moments and targets."""


def treated(treatment: str, trained: Any, fresh: Any) -> Any:
    """A trained agent's state with a part from a fresh one (Ma et al. 2025, arXiv 2506.17204, §5;
    Nikishin et al. 2022, arXiv 2205.07802)."""
    take = TREATMENTS[treatment]

    def choose(path: Any, old: Array, new: Array) -> Array:
        return new if take(path_name(path)) else old

    return jax.tree_util.tree_map_with_path(choose, trained, fresh)


class Prober(NamedTuple):
    """A run's static parts for probing. All methods are pure."""

    loop: OffPolicyLoop
    updates: int
    """Of retraining."""
    batches: int
    """Whose gradients are compared, and after each of which the policy is."""

    def _key(self, state: RunState, which: int) -> Array:
        return jax.random.fold_in(jax.random.fold_in(state.key, Streams.AFTERWARDS), which)

    def treat(self, treatment: str, state: RunState, inputs: RunInputs) -> RunState:
        """The run's state with a part of the agent anew, from a key that training did not use."""
        fresh = self.loop.agent.init(self._key(state, 0), inputs)
        return state._replace(agent=treated(treatment, state.agent, fresh))

    def retrain(self, state: RunState) -> tuple[RunState, Metrics]:
        """Update on the replay buffer as it is; metrics are means over the last tenth."""
        key, last = self._key(state, 1), max(1, self.updates // 10)

        def update(i: Any, carry: tuple[RunState, Metrics]) -> tuple[RunState, Metrics]:
            state, sums = carry
            state, metrics = self.loop.learning.update(state, jax.random.fold_in(key, i))
            counted = i >= self.updates - last
            return state, jax.tree.map(lambda s, m: s + jnp.where(counted, m, 0.0), sums, metrics)

        zeros = jax.eval_shape(lambda s: self.loop.learning.update(s, key)[1], state)
        start = (state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros))
        state, sums = jax.lax.fori_loop(0, self.updates, update, start)
        return state, jax.tree.map(lambda s: s / last, sums)

    def gradient_cosines(self, state: RunState) -> Metrics:
        """network → float32 ``[batches, batches]``: cosines between the gradients of replay batches, by
        random projection. Near 0: they do not interfere; below: what helps one harms the other."""
        key, size = self._key(state, 2), self.loop.learning.settings.batch_size

        def one(i: Array) -> dict[str, Array]:
            own = jax.random.fold_in(key, i)
            key_batch, key_update = jax.random.split(own)
            batch = self.loop.learning.batch(state, key_batch, size)
            found = gradients.of_batch(self.loop.agent, state.agent, batch, key_update)
            return {name: gradients.sketch(tree, key) for name, tree in found.items()}

        rows = jax.lax.map(one, jnp.arange(self.batches))
        return {name: gradients.cosines(sketched) for name, sketched in rows.items()}

    def churn(self, state: RunState) -> Array:
        """Mean |π'(s) − π(s)| over replay states that one update was not made on, and over actions and
        batches (policy churn: Schaul et al. 2022, arXiv 2206.00730, for continuous actions)."""
        key, size = self._key(state, 3), self.loop.learning.settings.batch_size

        def one(i: Array) -> Array:
            own = jax.random.fold_in(key, i)
            key_update, key_seen = jax.random.split(own)
            after, _ = self.loop.learning.update(state, key_update)
            seen = self.loop.learning.batch(state, key_seen, size).observation
            policies = (self.loop.agent.act_greedily(s.agent, seen) for s in (after, state))
            new, old = policies
            return jnp.mean(jnp.abs(new - old))

        return jnp.mean(jax.lax.map(one, jnp.arange(self.batches)))
