# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # From Python
# Everything that the command does, in a notebook: `jupytext --to ipynb --execute docs/from_python.py`
# makes one of this file. It takes a minute on two cores.

# %%
import numpy as np
import torch  # for the last part alone: pip install 'sparse_rl[torch]'

import sparse_rl
from sparse_rl.torch_modules import prune_

# %% [markdown]
# ## Train
# Keywords are the command's keys; `__` stands for a dot, and several values are an axis of the grid. Run
# ids, folders and packs are the command's too: what is on disk already is not trained again.

# %%
rows = sparse_rl.train(
    study="single", agent="sac_small", env="gymnax/pendulum", width=16, sparsity=[0, 0.9],
    env_steps=2e3, eval_every=1e3, name="notebook", quiet=True,
)  # fmt: skip
evaluated = rows.dropna(subset="return_mean")
evaluated.groupby(["sparsity", "env_steps"])["return_mean"].mean().unstack()

# %% [markdown]
# ## Act
# A finished run is a policy: numpy in and out. It normalises what it sees as it did in training, and
# its weights stay as sparse as they were stored. `memory` is what a policy carries from step to step;
# leave it out where an episode begins.

# %%
run = rows.loc[rows["sparsity"] == 0.9, "run_id"].iloc[0]
policy = sparse_rl.load(f"results/notebook/{run}")
seen = np.array([1.0, 0.0, 0.5])  # cosine, sine and speed of the pendulum
action, memory = policy(seen)
print("torque, as a share of the largest:", action)
action, memory = policy(np.array([0.99, 0.05, 0.4]), memory)  # the step after it

# %% [markdown]
# ## Go on in torch
# Weights and masks under torch's names: a module whose layers are called the same loads them. With
# `sparse_rl.torch_modules.prune_` and these masks it stays sparse while you train it on.

# %%
state, masks = sparse_rl.to_torch(policy)
print({name: tuple(weight.shape) for name, weight in state.items()})


class Actor(torch.nn.Module):
    """SimBa with one block, as `agent=sac_small` has it."""

    def __init__(self, inputs: int, units: int, actions: int) -> None:
        super().__init__()
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm
        self.trunk = torch.nn.ModuleDict(
            {
                "embed": linear(inputs, units), "block_0_norm": norm(units, eps=1e-6),
                "block_0_expand": linear(units, 4 * units), "block_0_project": linear(4 * units, units),
                "norm": norm(units, eps=1e-6),
            }
        )  # fmt: skip
        self.mean, self.log_std = linear(units, actions), linear(units, actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.trunk["embed"](x)
        hidden = self.trunk["block_0_expand"](self.trunk["block_0_norm"](x)).relu()
        x = self.trunk["norm"](x + self.trunk["block_0_project"](hidden))
        return self.mean(x).tanh()


actor = Actor(3, state["trunk.embed.weight"].shape[0], 1)
actor.load_state_dict(state)
handles = prune_(actor, masks)

# %% [markdown]
# The network reads what the run's normaliser makes of an observation.

# %%
held = policy.held["normaliser"]
mean, deviation = np.asarray(held.mean.high), np.sqrt(np.asarray(held.squares.high) / held.seen + 1e-8)
normalised = torch.tensor(np.asarray((seen - mean) / deviation), dtype=torch.float32)
same = actor(normalised[None])[0].detach().numpy()
np.testing.assert_allclose(same, policy(seen)[0], atol=1e-4)
print("the same torque from torch:", same)
