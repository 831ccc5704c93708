"""An off-policy agent of three matrices whose gradients are known, for tests of what changes masks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from sparse_rl.agents.contract import OffPolicyAgent, RunInputs
from sparse_rl.pruning import Masked

SHAPE, ALIVE, FINAL = (4, 5), 11, 3
ADAM = optax.adam(0.01)


class Learner(NamedTuple):
    """An actor and two critics, one matrix each, the actor's with a bias that is dense."""

    actor: Any
    critic: Any
    target: Any
    optimisers: Any
    supports: Any


def slopes() -> dict[str, Any]:
    """The gradient of each network at every place."""
    rng = np.random.default_rng(9)

    def draw(*shape: int) -> Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    critic = {i: {"kernel": draw(*SHAPE)} for i in ("0", "1")}
    return {"actor": {"kernel": draw(*SHAPE), "bias": draw(5)}, "critic": critic}


def cut(supports: Any, tree: Any) -> Any:
    return jax.tree.map(
        lambda s, x: x if s is None else x * s.mask,
        supports,
        tree,
        is_leaf=lambda node: node is None or isinstance(node, Masked),
    )


def random_start(key: Array, inputs: RunInputs) -> Learner:
    """Everything about a weight differs: itself, its target, its moments."""
    rng = np.random.default_rng(4)
    trees = [jax.tree.map(lambda x: rng.normal(size=x.shape), slopes()) for _ in range(4)]
    offset = jax.random.normal(key, ())

    def mask() -> Masked:
        flat = np.arange(20) < (ALIVE if inputs.budgets["actor"] else 20)
        return Masked(jnp.asarray(rng.permutation(flat).reshape(SHAPE)))

    supports = {
        "actor": {"kernel": mask(), "bias": None},
        "critic": {i: {"kernel": mask()} for i in ("0", "1")},
    }
    weights, targets, first, second = (
        cut(supports, jax.tree.map(lambda x: jnp.asarray(x + offset, jnp.float32), tree))
        for tree in trees
    )
    optimisers = {}
    for name in ("actor", "critic"):
        adam, *rest = ADAM.init(weights[name])
        optimisers[name] = (adam._replace(mu=first[name], nu=second[name]), *rest)
    return Learner(weights["actor"], weights["critic"], targets["critic"], optimisers, supports)


def update(state: Learner, batch: Any, key: Array) -> tuple[Learner, dict[str, Array]]:
    """One step of Adam along the known gradients, as far as masks let it."""
    grads = cut(state.supports, slopes())
    steps = {name: ADAM.update(grads[name], state.optimisers[name])[1] for name in ("actor", "critic")}
    return state._replace(optimisers=steps), {}


AGENT = OffPolicyAgent(
    init=random_start,
    act=lambda state, seen, key: seen,
    act_greedily=lambda state, seen: seen,
    update=update,
    diagnose=lambda state, batch: {},
    parameters=lambda state: {"actor": state.actor, "critic": state.critic},
    supports=lambda state: state.supports,
    passes={},
    traffic={},
    wiring={},
)
