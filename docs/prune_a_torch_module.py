"""A torch training loop whose pruned weights do not exist; a few lines differ from a dense one.

pip install -e '.[torch]' && python docs/prune_a_torch_module.py
"""

import copy

import torch
from torch import nn

from sparse_rl.pruning import ParameterCounts
from sparse_rl.torch_modules import (
    grad_norm,
    module_counts,
    module_dormancy,
    module_masks,
    prune_,
    record_activations,
)


def train(steps: int = 100) -> tuple[nn.Module, nn.Module, ParameterCounts]:
    """A critic and its target after training, and the exact numbers of parameters."""
    critic = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    masks = module_masks(critic, 0, sparsity=0.9)  # a JAX key or its seed
    prune_(critic, masks)  # before the optimiser is made; nothing else is needed
    target = copy.deepcopy(critic).requires_grad_(False)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=1e-2)
    for step in range(steps):
        observation, reward, successor = torch.randn(32, 4), torch.randn(32, 1), torch.randn(32, 4)
        loss = nn.functional.mse_loss(critic(observation), reward + 0.99 * target(successor))
        optimiser.zero_grad()
        loss.backward()
        norm = grad_norm(critic)  # of surviving weights, before any clipping
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.lerp_(fast, 0.005)
        if (step + 1) % 50 == 0:
            with torch.no_grad(), record_activations(critic) as activations:
                critic(torch.randn(256, 4))
            health = module_dormancy(activations, masks)
            print(f"update {step + 1}: gradient norm {norm:.3f}, dormant ratio {health.network:.3f}")
    return critic, target, module_counts(critic, masks)


if __name__ == "__main__":
    print(train()[2])
