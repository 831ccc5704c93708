# %% [markdown]
# # By another key
#
# Score against a key that was swept, each width and sparsity a curve of its own. Runs that differ in
# further keys are on no common curve.

# %%
from sparse_rl.analysis import budgets, load_all, page, series, swept

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None
by = "agent.learning_rate"

# %%
rows = load_all(*studies, by=[by]).rows
grids = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]
varied = [grid for grid in grids if swept.varies(grid, by)]

# %%
page.words(
    f"{grid.label}: all runs have one {by}, so there is no curve."
    for grid in grids
    if grid not in varied
)

# %%
page.together(
    page.heading(f"{grid.label}: {by}")
    + page.words(swept.words(grid, by, budgets.margin_or(grid, margin)))
    + page.show(
        swept.figure(grid, by),
        f"by_{page.slug(by)}_{page.slug(grid.label)}",
        f"Final return by {by} on {grid.label}",
        out,
    )
    + page.table(swept.table(grid, by), "Interquartile mean over runs [95 % interval].")
    for grid in varied
)
