"""DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645): critics and encoder, then the actor on what the encoder
saw before its step, then the target critics. n-step rewards and what a successor is worth are given."""

from typing import NamedTuple

import torch
from torch import Tensor

from references.arithmetic import (
    Moments,
    Weights,
    adam,
    averaged,
    cut,
    dense,
    gradients,
    layer_norm,
    no_moments,
    norm,
)

NETWORKS = ("actor", "critic", "encoder")


class Settings(NamedTuple):
    rate: float
    target_rate: float
    clip: float
    """Of noise in the losses."""
    pad: int
    strides: tuple[int, ...]


class Batch(NamedTuple):
    observation: Tensor
    """``[n, height, width, channels]`` in [0, 255]."""
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    bootstrap: Tensor


class Draws(NamedTuple):
    """Noise, as large as it is to be, and offsets of windows in padded pictures: ``[n, 2]``."""

    now: Tensor
    following: Tensor
    target: Tensor
    actor: Tensor


class State(NamedTuple):
    actor: Weights
    critic: Weights
    encoder: Weights
    target: Weights
    moments: dict[str, Moments]
    masks: dict[str, Weights]


def start(weights: dict[str, Weights], masks: dict[str, Weights]) -> State:
    """Before the first update."""
    moments = {name: no_moments(weights[name]) for name in NETWORKS}
    actor, critic, encoder = (weights[name] for name in NETWORKS)
    return State(actor, critic, encoder, critic, moments, masks)


def shifted(pictures: Tensor, offsets: Tensor, pad: int) -> Tensor:
    """Each window of a picture whose edge pixels go on beyond it, pixel by pixel."""
    n, height, width, _ = pictures.shape
    rows = torch.arange(height) + offsets[:, :1] - pad
    columns = torch.arange(width) + offsets[:, 1:] - pad
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    each = torch.arange(n)[:, None, None]
    return pictures[each, rows[:, :, None], columns[:, None, :]]


def encode(settings: Settings, encoder: Weights, pictures: Tensor) -> Tensor:
    """Convolutions of 3×3 with ReLUs on pictures in [−½, ½] (app. B)."""
    x = pictures.permute(0, 3, 1, 2) / 255 - 0.5
    for i, stride in enumerate(settings.strides):
        layer = "trunk/conv" if i == 0 else f"trunk/conv_{i + 1}"
        kernel = encoder[f"{layer}/kernel"].reshape(3, 3, x.shape[1], -1).permute(3, 2, 0, 1)
        x = torch.relu(torch.nn.functional.conv2d(x, kernel, encoder[f"{layer}/bias"], stride))
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def few(weights: Weights, seen: Tensor) -> Tensor:
    normed = layer_norm(weights, "trunk/norm", dense(weights, "trunk/feature", seen), epsilon=1e-5)
    return torch.tanh(normed)


def act(actor: Weights, seen: Tensor) -> Tensor:
    x = few(actor, seen)
    for layer in ("dense_0", "dense_1"):
        x = torch.relu(dense(actor, f"trunk/{layer}", x))
    return torch.tanh(dense(actor, "mean", x))


def noisy(action: Tensor, noise: Tensor, clip: float) -> Tensor:
    """With noise of at most ``clip``, inside of [−1, 1] but with the gradient of what may be outside."""
    found = action + noise.clamp(-clip, clip)
    return found + (found.clamp(-1 + 1e-6, 1 - 1e-6) - found).detach()


def values(critic: Weights, seen: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) of both critics: ``[2, n]``."""
    both, found = torch.cat([few(critic, seen), action], -1), []
    for head in ("first", "second"):
        x = torch.relu(dense(critic, f"trunk/{head}_dense_0", both))
        x = torch.relu(dense(critic, f"trunk/{head}_dense_1", x))
        found.append(dense(critic, f"{head}_value", x)[:, 0])
    return torch.stack(found)


def update(
    settings: Settings, state: State, batch: Batch, draws: Draws
) -> tuple[State, dict[str, float]]:
    """One update."""
    used = {name: cut(getattr(state, name), state.masks[name]) for name in NETWORKS}
    following = shifted(batch.next_observation, draws.following, settings.pad)
    after = encode(settings, used["encoder"], following)
    action = noisy(act(used["actor"], after), draws.target, settings.clip)
    worth = values(cut(state.target, state.masks["critic"]), after, action).min(0).values
    target = batch.reward + batch.bootstrap * worth
    now = shifted(batch.observation, draws.now, settings.pad)

    def error(critic: Weights, encoder: Weights) -> Tensor:
        q = values(critic, encode(settings, encoder, now), batch.action)
        return ((q - target) ** 2).sum(0).mean()

    grads, metrics = {}, {}
    seen = encode(settings, used["encoder"], now)
    metrics["value_mean"] = float(values(used["critic"], seen, batch.action).mean())
    grads["critic"], metrics["loss/critic"] = gradients(
        lambda critic: error(critic, used["encoder"]), state.critic, state.masks["critic"]
    )
    grads["encoder"], _ = gradients(
        lambda encoder: error(used["critic"], encoder), state.encoder, state.masks["encoder"]
    )
    made, moments = {}, dict(state.moments)
    for name in ("critic", "encoder"):
        made[name], moments[name] = adam(getattr(state, name), grads[name], moments[name], settings.rate)
    critics = cut(made["critic"], state.masks["critic"])

    def actor_loss(actor: Weights) -> Tensor:
        action = noisy(act(actor, seen), draws.actor, settings.clip)
        return -values(critics, seen, action).min(0).values.mean()

    grads["actor"], metrics["loss/actor"] = gradients(actor_loss, state.actor, state.masks["actor"])
    made["actor"], moments["actor"] = adam(state.actor, grads["actor"], moments["actor"], settings.rate)
    metrics |= {f"grad_norm/{name}": norm(grads[name]) for name in NETWORKS}
    state = State(
        **made,
        target=averaged(state.target, made["critic"], settings.target_rate),
        moments=moments,
        masks=state.masks,
    )
    return state, metrics
