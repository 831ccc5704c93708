# %% [markdown]
# # Levels
#
# Who solves levels that nobody trained on? Episodes have drawn actions: a policy that remembers can go
# in circles for ever where it is greedy. Frames are all that were simulated, learned from or not.

# %%
from pathlib import Path

import pandas as pd

from sparse_rl.analysis import held_out, levels, load, page

# %% tags=["parameters"]
studies = ["results/curricula"]
out: str | None = None

# %%
rows = load(*studies)
tasks = [
    (f"{env}, {agent}", group)
    for (env, agent), group in rows.groupby(["env", "agent"])
    if levels.sets_of(group[group["status"] == "done"])
]

# %% [markdown]
# ## While they were trained

# %%
page.together(
    page.show(
        levels.curves(group),
        f"levels_{page.slug(task)}",
        f"Solve rate of held-out levels: {task}",
        out,
    )
    for task, group in tasks
)

# %%
page.together(
    page.heading(task)
    + page.table(levels.finals(group), "Interquartile mean over runs [95 % interval]; counts per run.")
    for task, group in tasks
)

# %% [markdown]
# ## Every held-out set
#
# From `python -m sparse_rl.held_out results/<name>`, where that was run.

# %%
found = [path for study in studies if (path := Path(study) / "held_out.parquet").exists()]
page.together(
    page.table(held_out.summary(pd.read_parquet(path)).reset_index(), "Solve rates [95 % interval].")
    for path in found
)
