# %% [markdown]
# # Curves
#
# What happens to the score as the network gets wider, and what does removing weights do to that
# curve? A run's score is the mean over the last fifth of its training. A cell is the runs that differ
# in their seeds only; its value is the interquartile mean (with fewer than four runs, the mean).
# Intervals are 95 % over seeds: moderated t below ten runs of a cell, percentiles of a bootstrap from
# there on.

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
# P(above dense) is the probability that a sparse run scores above a dense one of its width. Its
# intervals are Newcombe's, and hold for all lines at once. Below it are scores as shares of their
# task's range, where a range is known.

# %%
page.together(
    page.heading(grid.label)
    + page.table(tables.improvement_table(grid), rows=grid.query())
    + page.together(page.table(table) for table in tables.aggregates(grid))
    for grid in trained
)
