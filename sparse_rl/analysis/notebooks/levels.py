# %% [markdown]
# # Levels
#
# Who solves levels that nobody trained on? Episodes have drawn actions: a policy that remembers can go
# in circles for ever where it is greedy. Frames are all that were simulated, learned from or not.

# %%
from pathlib import Path

import pandas as pd

from sparse_rl.analysis import gallery, held_out, levels, load, page

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

# %% [markdown]
# ## Which levels a curriculum chose
#
# Six moments of a run, and at its end the hardest level that was ever solved.

# %%
page.together(
    page.words([one])
    if isinstance(one, str)
    else page.show(one.figure, f"gallery_{page.slug(f'{task}_{one.name}')}", one.caption, out)
    for task, group in tasks
    for one in gallery.galleries(group, levels.sets_of(group))
)

# %% [markdown]
# ## Held-out levels that were not solved
#
# Those solved least often over all runs, at most two of a set, each with one episode of the run that
# solves most.

# %%
page.together(
    page.words([one])
    if isinstance(one, str)
    else page.show(
        one,
        f"failures_{page.slug(Path(study).name)}",
        "Solved least often: share of all episodes of all runs, drawn actions. The bluer a cell, the "
        "longer the agent was there",
        out,
    )
    for study in studies
    if (one := gallery.failed(study)) is not None
)
