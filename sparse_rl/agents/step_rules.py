"""How far agents of a stream step along an eligibility trace: two rules, each of a network by itself."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

CLIP_AT = 20.0
"""Root mean squares of the TD errors so far beyond which one is cut off (2604.19033, alg. 3: C)."""
KEPT = 0.9998
"""Of running means of TD errors (2604.19033: β_clip and β_norm)."""
TINY = 1e-8


class Sums(NamedTuple):
    """Over all weights of a network: float32 scalars."""

    trace_size: Array
    """‖z‖₁, this gradient included."""
    trace_square: Array
    """‖z‖₂²."""
    grad_square: Array
    """‖∇‖₂²."""


class Intent(NamedTuple):
    """What the second rule remembers of a network's steps."""

    steps: Array
    """int32: made so far."""
    grad_square: Array
    """float32: running mean of ‖∇‖₂², as long as a trace; not corrected for its start."""
    error_square: Array
    """float32: running mean of δ², which starts at 1."""
    error_size: Array
    """float32: running mean of |δ|, cut off; for the policy."""


def no_intent() -> Intent:
    """Before the first step."""
    return Intent(jnp.int32(0), jnp.float32(0.0), jnp.float32(1.0), jnp.float32(0.0))


def obgd(rate: Array, kappa: float, error: Array, sums: Sums) -> Array:
    """Overshooting-bounded gradient descent (Elsayed et al. 2024, arXiv 2410.14606, alg. 3): the factor
    of the trace, α · δ with α = η / max(1, η κ max(|δ|, 1) ‖z‖₁).

    Args:
        rate: η.
        kappa: κ.
        error: δ.
        sums: of the network.
    """
    overshoot = rate * kappa * jnp.maximum(jnp.abs(error), 1.0) * sums.trace_size
    return rate / jnp.maximum(overshoot, 1.0) * error


def _corrected(mean: Array, kept: float, steps: Array) -> Array:
    """A running mean that began at 0 after so many steps, as if it had not."""
    if kept == 0.0:
        return mean
    return mean / -jnp.expm1(steps.astype(jnp.float32) * math.log(kept))


def intentional(
    rate: Array, share: float, decay: float, error: Array, sums: Sums, intent: Intent, *, policy: bool
) -> tuple[Array, Intent]:
    """Intentional updates (Sharifnassab et al. 2026, arXiv 2604.19033, alg. 2 and 3) without their
    diagonal scaling: the factor of the trace, α · δ' with α = η s / √(mean ‖∇‖² · ‖z‖²), so that a step
    removes about the share s of a TD error, whatever the network's size. δ' is δ, cut off; for a policy
    divided by its mean size, so that s bounds the step and not its product with δ.

    Args:
        rate: η, 1 as published.
        share: s.
        decay: γλ: gradients are averaged over as many steps as a trace holds.
        error: δ.
        sums: of the network.
        intent: what is remembered.
        policy: whether the network is one.

    Returns:
        The factor, and what is remembered after it.
    """
    steps = intent.steps + 1
    grad_square = intent.grad_square + (1.0 - decay) * (sums.grad_square - intent.grad_square)
    reach = jnp.sqrt(_corrected(grad_square, decay, steps) * sums.trace_square)
    error_square = KEPT * intent.error_square + (1.0 - KEPT) * jnp.square(error)
    bound = CLIP_AT * jnp.sqrt(_corrected(error_square, KEPT, steps))
    error = jnp.clip(error, -bound, bound)
    error_size = intent.error_size
    if policy:
        error_size = KEPT * error_size + (1.0 - KEPT) * jnp.abs(error)
        error = error / jnp.maximum(_corrected(error_size, KEPT, steps), 1e-12)
    factor = rate * share / jnp.maximum(reach, TINY) * error
    return factor, Intent(steps, grad_square, error_square, error_size)
