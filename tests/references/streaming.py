"""Stream AC(λ) and Stream Q(λ) (Elsayed et al. 2024, arXiv 2410.14606, alg. 3, 7 and 8), and intentional
steps without diagonal scaling (Sharifnassab et al. 2026, arXiv 2604.19033), in float64 from the papers.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from references.arithmetic import Weights, below, dense, gradients

GAMMA, LAMBDA = 0.9, 0.7


class Rule(NamedTuple):
    """A network's step rule: κ of ObGD, or the share that an intentional step removes."""

    kappa: float | None
    share: float = 0.0
    policy: bool = False


class Learner(NamedTuple):
    """One network."""

    weights: Weights
    traces: Weights
    steps: int = 0
    square: float = 0.0
    """Running mean of ‖∇‖²."""
    error_square: float = 1.0
    error_size: float = 0.0


def begin(weights: Weights) -> Learner:
    return Learner(weights, {path: torch.zeros_like(w) for path, w in weights.items()})


def normed(x: Tensor) -> Tensor:
    """Layer norm without parameters, then LeakyReLU."""
    centred = x - x.mean(-1, keepdim=True)
    x = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
    return torch.where(x > 0, x, 0.01 * x)


def says(weights: Weights, head: str, x: Tensor) -> Tensor:
    """A head of the network: ``[o]`` → ``[units]``."""
    for i in (0, 1):
        x = normed(dense(below(weights, "trunk"), f"dense_{i}", x))
    return dense(weights, head, x)


def ascent(weights: Weights, x: Tensor, action: Any, sign: float, coefficient: float) -> Tensor:
    """log π(a|s) + τ sign(δ) H of a Gaussian, or of a choice."""
    if isinstance(action, int):
        log_probs = torch.log_softmax(says(weights, "logits", x), -1)
        return log_probs[action] - coefficient * sign * (log_probs.exp() * log_probs).sum()
    mean = says(weights, "mean", x)
    deviation = torch.log1p(torch.exp(says(weights, "deviation", x)))
    log_prob = -((action - mean) ** 2) / (2 * deviation**2) - torch.log(
        deviation * math.sqrt(2 * math.pi)
    )
    entropy = torch.log(deviation * math.sqrt(2 * math.pi * math.e))
    return log_prob.sum() + coefficient * sign * entropy.sum()


def total(tree: Weights, power: int) -> float:
    return sum(float((x.abs() ** power).sum()) for x in tree.values())


def step(
    learner: Learner, grads: Weights, error: float, rate: float, rule: Rule, resets: bool
) -> Learner:
    """z ← γλ z + ∇, then w ← w + α δ z, then z ← 0 where traces begin anew."""
    decay = GAMMA * LAMBDA
    traces = {path: decay * z + grads[path] for path, z in learner.traces.items()}
    steps, square = learner.steps + 1, learner.square
    error_square, error_size = learner.error_square, learner.error_size
    if rule.kappa is not None:
        size = rate / max(1.0, rate * rule.kappa * max(abs(error), 1.0) * total(traces, 1))
    else:
        square += (1 - decay) * (total(grads, 2) - square)
        size = rate * rule.share / math.sqrt(square / (1 - decay**steps) * total(traces, 2))
        error_square = 0.9998 * error_square + 0.0002 * error**2
        bound = 20 * math.sqrt(error_square / (1 - 0.9998**steps))
        error = min(max(error, -bound), bound)
        if rule.policy:
            error_size = 0.9998 * error_size + 0.0002 * abs(error)
            error /= error_size / (1 - 0.9998**steps)
    weights = {path: w + size * error * traces[path] for path, w in learner.weights.items()}
    kept = {path: torch.zeros_like(z) if resets else z for path, z in traces.items()}
    return Learner(weights, kept, steps, square, error_square, error_size)


def actor_critic(
    learners: dict[str, Learner], masks: dict[str, Weights], happened: dict[str, Any],
    rate: float, rules: dict[str, Rule], coefficient: float,
) -> dict[str, Learner]:  # fmt: skip
    """One transition of Stream AC(λ)."""
    seen, following = (torch.tensor(happened[name], dtype=torch.float64) for name in ("s", "n"))
    action = happened["a"]
    action = action if isinstance(action, int) else torch.tensor(action, dtype=torch.float64)
    critic, actor = learners["critic"].weights, learners["actor"].weights
    value = says(critic, "value", seen)[0]
    worth = 0.0 if happened["terminated"] else float(says(critic, "value", following)[0])
    error = happened["r"] + GAMMA * worth - float(value)
    sign = math.copysign(1.0, error) if error else 0.0
    grads = {
        "critic": gradients(lambda w: says(w, "value", seen)[0], critic, masks["critic"])[0],
        "actor": gradients(lambda w: ascent(w, seen, action, sign, coefficient), actor, masks["actor"])[
            0
        ],
    }
    return {
        name: step(learners[name], grads[name], error, rate, rules[name], happened["ended"])
        for name in grads
    }


def q_learning(
    learner: Learner, masks: Weights, happened: dict[str, Any], rate: float, rule: Rule
) -> Learner:
    """One transition of Stream Q(λ)."""
    seen, following = (torch.tensor(happened[name], dtype=torch.float64) for name in ("s", "n"))
    values, action = says(learner.weights, "value", seen), happened["a"]
    worth = 0.0 if happened["terminated"] else float(says(learner.weights, "value", following).max())
    error = happened["r"] + GAMMA * worth - float(values[action])
    grads = gradients(lambda w: says(w, "value", seen)[action], learner.weights, masks)[0]
    resets = happened["ended"] or action != int(values.argmax())
    return step(learner, grads, error, rate, rule, resets)
