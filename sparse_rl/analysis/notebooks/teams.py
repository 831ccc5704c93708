# %% [markdown]
# # Teams
#
# The return of a team is the sum of its agents' rewards, or a reward that all share once. Two policies
# that take their likeliest actions can block each other for ever, so both ways of acting are here.

# %%
from pathlib import Path

import pandas as pd

from sparse_rl.analysis import crossplay, load, page, teams

# %% tags=["parameters"]
studies = ["results/teams"]
out: str | None = None

# %%
rows = load(*studies)
tasks = list(rows[rows["agent"].notna()].groupby("env"))

# %% [markdown]
# ## With those they trained with

# %%
page.together(
    page.heading(str(env))
    + page.table(teams.finals(group), "Interquartile mean over runs [95 % interval].")
    for env, group in tasks
    if teams.played(group)
)

# %% [markdown]
# ## With those they did not
#
# From `python -m sparse_rl.crossplay results/<name>`, where that was run. Intervals are over runs: pairs
# share them.

# %%
found = [path for study in studies if (path := Path(study) / "crossplay.parquet").exists()]
matches = [pd.read_parquet(path) for path in found]
page.together(
    page.table(crossplay.summary(met), "Mean return of the team [95 % interval]; gap: what is lost.")
    for met in matches
)

# %%
page.together(
    page.show(
        crossplay.matrix(met, policy), f"crossplay_{policy}_{i}", f"Cross-play, {policy} actions", out
    )
    for i, met in enumerate(matches)
    for policy in met["policy"].unique()
)
