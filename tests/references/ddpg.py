"""DDPG (Lillicrap et al. 2015, arXiv 1509.02971) as SimBa has it: no slow actor, and noise in losses."""

import torch
from torch import Tensor

from references import sac
from references.arithmetic import Weights, adam, cut, dense, gradients, norm, trunk
from references.sac import Batch, Settings, State, least, step_critics, value


def start(actor: Weights, critic: Weights, masks: dict[str, Weights]) -> State:
    """Before the first update; the temperature is nobody's."""
    return sac.start(actor, critic, masks)


def explore(actor: Weights, observation: Tensor, noise: Tensor) -> Tensor:
    """The actor's action, with noise and within [−1, 1]."""
    best = torch.tanh(dense(actor, "mean", trunk(actor, observation)))
    return torch.clamp(best + noise, -1.0, 1.0)


def update(
    settings: Settings, state: State, batch: Batch, noise: tuple[Tensor, Tensor]
) -> tuple[State, dict[str, float]]:
    """One update; the noise, as large as it is to be: of the actor's loss, and of the targets."""
    critics = cut(state.critic, state.masks["critic"])

    def actor_loss(actor: Weights) -> Tensor:
        action = explore(actor, batch.observation, noise[0])
        return -least(value(critics, batch.observation, action)).mean()

    grads, found = gradients(actor_loss, state.actor, state.masks["actor"])
    metrics = {"loss/actor": found, "grad_norm/actor": norm(grads)}
    actor, moments = adam(state.actor, grads, state.moments["actor"], settings.rate, settings.decay)
    state = state._replace(actor=actor, moments=state.moments | {"actor": moments})

    following = batch.next_observation
    action = explore(cut(actor, state.masks["actor"]), following, noise[1])
    worth = least(value(cut(state.target, state.masks["critic"]), following, action))
    target = batch.reward + settings.discount * (1 - batch.terminated) * worth
    return step_critics(settings, state, batch, target, metrics), metrics
