"""AZOPG: zero-order policy gradient for linear-quadratic regulators, with parallel workers.

Sha, Zhao, You 2024 (arXiv 2407.03233). A worker perturbs the gain K that it was given by a direction U,
uniform on the unit sphere of the free entries, and rolls both perturbations out from the same x0:
g = d/(2r) · [J(K + rU; x0) − J(K − rU; x0)] · U with d free entries; one-point:
g = d/r · J(K + rU; x0) · U. The master takes the step K ← K − ηg when g arrives, whatever K has become
meanwhile.

The policy is a network of one layer: its kernel is Kᵀ, ``[n, m]``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents.contract import RunInputs
from sparse_rl.agents.pruned import draw_pruned
from sparse_rl.diagnostics import global_norm
from sparse_rl.networks import Wiring, chain
from sparse_rl.pruning import restore, store, support_masks
from sparse_rl.settings.agents import AzopgConfig
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.simulators import plants

WIRING = {"actor": Wiring(chain("gain"))}


class AzopgState(NamedTuple):
    """The master's gain."""

    params: Any
    """``{"gain": {"kernel": …}}`` as stored."""
    supports: Any


class Probe(NamedTuple):
    """What a worker is about to roll out."""

    direction: Any
    """U, of the form of the parameters."""
    start: Array
    """x0, float32 ``[n]``: of all its rollouts."""
    gains: Array
    """float32 ``[rollouts, m, n]``: K + rU, and K − rU of a two-point estimate."""


class Estimate(NamedTuple):
    """What a worker sends."""

    gradient: Any
    """Of the form of the parameters; zero if it failed."""
    failed: Array
    """bool: a perturbed gain was not stabilising."""


class AzopgAgent(NamedTuple):
    """The functions that the zero-order loops drive."""

    init: Callable[[Array, RunInputs], AzopgState]
    """``(key, inputs) → state``: K = 0, pruned."""
    gain: Callable[[Any, Any], Array]
    """``(parameters, supports) → K``, float32 ``[m, n]``."""
    probe: Callable[[Any, Any, Array], Probe]
    """``(parameters, supports, key) → probe`` around these parameters."""
    estimate: Callable[[Any, Probe, Array, Array], Estimate]
    """``(supports, probe, P [rollouts, n, n], settles [rollouts]) → estimate``, from what the oracle
    says of the probe's gains (:func:`sparse_rl.envs.lqr.cost_matrix`)."""
    free_entries: Callable[[Any, Any], Array]
    """``(parameters, supports) → d``, float32."""
    parameters: Callable[[Any], Mapping[str, Any]]
    supports: Callable[[Any], Mapping[str, Any]]
    passes: Mapping[str, int]
    traffic: Mapping[str, int]
    wiring: Mapping[str, Wiring]
    """As of :class:`sparse_rl.agents.contract.OffPolicyAgent`; a rollout counts as one product with the
    gain."""


def of_kernel(kernel: Any) -> dict[str, Any]:
    """The parameters of a policy of one layer."""
    return {"gain": {"kernel": kernel}}


def gain(params: Any, supports: Any) -> Array:
    """K, float32 ``[m, n]``, however it is stored."""
    kernel: Array = restore(supports, params)["gain"]["kernel"]
    return kernel.T


def free_entries(shape: tuple[int, int], supports: Any) -> Array:
    """d, float32."""
    masks = jax.tree.leaves(support_masks(supports))
    return jnp.float32(shape[0] * shape[1]) if not masks else jnp.sum(masks[0], dtype=jnp.float32)


def direction(shape: tuple[int, int], supports: Any, key: Array) -> Any:
    """Uniform on the unit sphere of the free entries, of the form of the parameters."""
    drawn = store(supports, of_kernel(jax.random.normal(key, shape)))
    return jax.tree.map(lambda x: x / global_norm(drawn), drawn)


def make(config: RunConfig, plant: plants.Plant) -> AzopgAgent:
    """The functions of a run's agent."""
    settings = agent_settings(config, AzopgConfig)
    shape, radius = plant.b.shape, settings.radius
    two_points = settings.estimator == "two_point"
    signs = jnp.array([1.0, -1.0]) if two_points else jnp.array([1.0])

    def init(key: Array, inputs: RunInputs) -> AzopgState:
        def nothing(key: Array) -> dict[str, Any]:
            del key  # only the masks are random
            return {"actor": of_kernel(jnp.zeros(shape))}

        params, supports = draw_pruned(config, WIRING, nothing, key, inputs)
        return AzopgState(params["actor"], supports["actor"])

    def probe(params: Any, supports: Any, key: Array) -> Probe:
        key_direction, key_start = jax.random.split(key)
        u = direction(shape, supports, key_direction)
        moved = gain(params, supports) + radius * signs[:, None, None] * gain(u, supports)
        return Probe(u, jax.random.normal(key_start, shape[:1]), moved)

    def estimate(supports: Any, probe: Probe, p: Array, settles: Array) -> Estimate:
        costs = jnp.einsum("i,sij,j->s", probe.start, p, probe.start)
        slope = jnp.sum(signs * costs) / (len(signs) * radius) * free_entries(shape, supports)
        failed = ~jnp.all(settles)
        gradient = jax.tree.map(lambda u: jnp.where(failed, 0.0, slope * u), probe.direction)
        return Estimate(gradient, failed)

    return AzopgAgent(
        init=init,
        gain=gain,
        probe=probe,
        estimate=estimate,
        free_entries=lambda params, supports: free_entries(shape, supports),
        parameters=lambda state: {"actor": state.params},
        supports=lambda state: {"actor": state.supports},
        passes={"actor": settings.num_envs},
        traffic={"actor": 2},
        wiring=WIRING,
    )
