"""Networks that the agents of a team do not share: one for each agent, or for each kind of agents; or
one whose weights all use, each agent through a mask of its own.

All are of one architecture, and their parameters stand side by side by label, as those of an ensemble.
Where agents share weights and not masks there is one set of parameters, and a label has a mask.
Who uses which is told by place: agent a of team e is sample n = e · A + a, so teams must stay together.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.experience import means
from sparse_rl.networks import Wiring, ensemble, initial_params, wiring_of
from sparse_rl.pruning import owned, owned_weights, weights


class Apart(NamedTuple):
    """A network of each group of agents."""

    network: Any
    """What each has: one of ours."""
    groups: tuple[tuple[int, ...], ...]
    """The agents of each."""
    one_set: bool = False
    """Whether all use the same weights, each group through a mask of its own."""

    @property
    def agents(self) -> int:
        """Of a team."""
        return sum(map(len, self.groups))

    @property
    def labelled(self) -> dict[str, tuple[int, ...]]:
        """Label → its agents."""
        return {str(g): agents for g, agents in enumerate(self.groups)}


Network: TypeAlias = nn.Module | Apart
"""One that all use, or several."""


def grouped(network: nn.Module, sharing: str, kinds: Sequence[int], sparsity: float) -> Any:
    """The network, or one of each group.

    Args:
        network: of ours.
        sharing: ``all``, ``kind`` or ``none``: who uses the same one; ``masks``: all, through masks of
            their own.
        kinds: of the agents.
        sparsity: of the network; without any there are no masks, and nothing tells ``masks`` from
            ``all``.
    """
    if sharing == "all" or (sharing == "masks" and not sparsity):
        return network
    names = list(kinds) if sharing == "kind" else list(range(len(kinds)))
    groups = [tuple(a for a, of in enumerate(names) if of == name) for name in sorted(set(names))]
    return Apart(network, tuple(groups), sharing == "masks")


def one_of(network: Network) -> Any:
    """The network itself, whoever uses it."""
    return network.network if isinstance(network, Apart) else network


def together(*networks: Network) -> int:
    """Samples in a row that must stay together."""
    return max(network.agents if isinstance(network, Apart) else 1 for network in networks)


def labels(network: Network) -> tuple[str, ...]:
    """Of those who have masks of their own for weights that all share; nobody else."""
    return tuple(network.labelled) if isinstance(network, Apart) and network.one_set else ()


def of_labels(network: Apart, params: Any, supports: Any) -> tuple[Any, Any]:
    """Label → what its network is used with: parameters as stored, and supports."""
    if not network.one_set:
        return params, supports
    numbered = list(enumerate(network.labelled))
    return (
        {label: owned_weights(supports, params, g) for g, label in numbered},
        {label: owned(supports, g) for g, label in numbered},
    )


def ready(network: Network, params: Any, supports: Any) -> tuple[Any, Any]:
    """Weights, made ready for use once (:func:`~sparse_rl.pruning.weights`), and the supports that go
    with them; by label where agents do not share all."""
    if isinstance(network, Apart):
        params, supports = of_labels(network, params, supports)
    return weights(supports, params), supports


def initial(network: Network, key: Array, observation: Array, span: int | None) -> Any:
    """:func:`~sparse_rl.networks.initial_params`, of each group from a key of its own."""
    if not isinstance(network, Apart) or network.one_set:
        return initial_params(one_of(network), key, observation, span)
    return {
        label: initial_params(network.network, jax.random.fold_in(key, g), observation, span)
        for g, label in enumerate(network.labelled)
    }


def wiring_of_all(network: Network) -> Wiring:
    """What all layers read."""
    if not isinstance(network, Apart) or network.one_set:
        return wiring_of(one_of(network))
    return ensemble(wiring_of(network.network), network.labelled)


def shares(name: str, network: Network, samples: int) -> dict[str, int]:
    """``name/label`` → so many of these samples that a group's network sees, where each has weights of
    its own: of weights that all share each agent keeps as many, so all see the samples of one."""
    if not isinstance(network, Apart) or network.one_set:
        return {}
    return {
        f"{name}/{label}": samples * len(agents) // network.agents
        for label, agents in network.labelled.items()
    }


def of_group(tree: Any, agents: Sequence[int], of: int, axis: int = 0) -> Any:
    """These agents' samples of ``[…, n, …]``.

    Args:
        tree: of arrays; n along ``axis``.
        agents: whose.
        of: agents of a team.
        axis: that of the samples.
    """

    def choose(x: Array) -> Array:
        shape = (*x.shape[:axis], -1, of, *x.shape[axis + 1 :])
        chosen = jnp.take(x.reshape(shape), np.array(agents), axis=axis + 1)
        return chosen.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    return jax.tree.map(choose, tree)


def joined(parts: Sequence[Any], network: Apart, axis: int) -> Any:
    """What the groups have, in the order of the team again: undoes :func:`of_group`."""
    order = np.argsort([agent for agents in network.groups for agent in agents])

    def join(*arrays: Array) -> Array:
        apart = [
            x.reshape(*x.shape[:axis], -1, len(agents), *x.shape[axis + 1 :])
            for x, agents in zip(arrays, network.groups, strict=True)
        ]
        teams = jnp.take(jnp.concatenate(apart, axis=axis + 1), order, axis=axis + 1)
        return teams.reshape(*teams.shape[:axis], -1, *teams.shape[axis + 2 :])

    return jax.tree.map(join, *parts)


def each(
    network: Apart, run: Callable[..., Any], params: Any, supports: Any, *seen: tuple[Any, int]
) -> list[Any]:
    """What each group's network says of what its agents see.

    Args:
        network: of the groups.
        run: ``(network, params, supports, *seen) → said``.
        params, supports: label → of each (:func:`of_labels`).
        seen: trees, and the axis of their samples.
    """
    return [
        run(
            network.network, params[label], supports[label],
            *(of_group(tree, agents, network.agents, axis) for tree, axis in seen),
        )
        for label, agents in network.labelled.items()
    ]  # fmt: skip


class Probe(NamedTuple):
    """A group's network, and what it is probed on."""

    params: Any
    supports: Any
    seen: Any


def probes(
    network: Network, params: Any, supports: Any, seen: Any, weight: Array | None, wanted: int
) -> dict[str, Probe]:
    """Label → what to probe; ``""`` where all use one network.

    Args:
        network: the network.
        params, supports: of it.
        seen: a tree of ``[n, …]``; where agents do not share, teams stand together.
        weight: float32 ``[n]``: who acts; ``None``: all.
        wanted: samples that suffice.
    """
    if not isinstance(network, Apart):
        return {"": Probe(params, supports, seen)}
    found = {}
    params, supports = of_labels(network, params, supports)
    for label, agents in network.labelled.items():
        own = of_group(seen, agents, network.agents)
        acts = None if weight is None else of_group(weight, agents, network.agents)
        found[label] = Probe(params[label], supports[label], first_of(own, acts, wanted))
    return found


def first_of(seen: Any, weight: Array | None, wanted: int) -> Any:
    """So many samples, those of who acts before all others."""
    if weight is not None:
        chosen = means.first_of(jnp.arange(len(weight)), weight)
        seen = jax.tree.map(lambda x: x[chosen], seen)
    return jax.tree.map(lambda x: x[:wanted], seen)
