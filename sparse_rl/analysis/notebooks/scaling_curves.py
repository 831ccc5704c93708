# %% [markdown]
# # Curves
#
# What happens to the score as the network gets wider, and what does removing weights do to that curve?
# Intervals are 95 % over seeds: moderated t below ten runs of a cell, percentiles of a bootstrap from
# there on. With fewer than four runs the interquartile mean is the mean. A run's score is the mean over
# the last fifth of its training.

# %%
from sparse_rl.analysis import figures, load, page, plots, scores, series, tables

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]
trained += list(series.pool(trained))
health = [metric for metric in figures.METRICS if metric != scores.RETURN]

# %% [markdown]
# ## Health by size

# %%
page.together(
    page.show(
        figures.scaling_curves(grid.rows, grid.label, health),
        f"health_by_size_{page.slug(grid.label)}",
        f"{grid.label}: dormant ratio and gradient norm by size. {figures.note(grid.rows)}",
        out,
        plots.scaling(grid.rows, health),
    )
    for grid in trained
    if any(metric in grid.rows and grid.rows[metric].notna().any() for metric in health)
)

# %% [markdown]
# ## Learning

# %%
page.together(
    page.show(
        figures.learning_curves(grid.rows, grid.label),
        f"learning_{page.slug(grid.label)}",
        f"{grid.label}: return over training, by width. Dotted: runs that did not end done",
        out,
        plots.learning(grid.rows),
    )
    for grid in trained
)

# %% [markdown]
# ## Values

# %%
page.together(
    page.heading(grid.label)
    + page.table(tables.cell_table(grid), f"Interquartile mean over runs [{tables.kind(grid)}].")
    for grid in trained
)

# %% [markdown]
# ## Beside dense, and on a common scale
#
# Probability that a sparse run scores above a dense one of its width (Newcombe's intervals, which hold
# together for all lines); scores normalised by their task's range, where one is known.

# %%
page.together(
    page.heading(grid.label)
    + page.table(tables.improvement_table(grid), rows=grid.query())
    + page.together(page.table(table) for table in tables.aggregates(grid))
    for grid in trained
)
