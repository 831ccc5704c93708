# %% [markdown]
# # Compute-optimal networks
#
# What to spend a budget on: at equal FLOPs, time and parameters, which width and which sparsity? FLOPs
# are those of surviving weights; only block storage turns them into time.

# %%
from sparse_rl.analysis import (
    answers,
    budgets,
    figures,
    findings,
    load,
    page,
    plots,
    scores,
    series,
    tables,
)

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None
thresholds: list[float] = []

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]

# %% [markdown]
# ## The best network for a budget
#
# What ended cheaper counts with its last value. Budgets that a cell did not begin for, and those at
# which nothing has learned, are left out.

# %%
page.together(
    page.table(budgets.frontier(grid), f"{grid.label}: best cell for each budget of training FLOPs")
    + page.show(
        figures.iso_flops(grid.rows, budgets.budgets(grid), grid.label),
        f"iso_flops_{page.slug(grid.label)}",
        f"{grid.label}: return at equal training FLOPs, a line per budget",
        out,
        plots.iso_flops(grid.rows, budgets.budgets(grid)),
    )
    for grid in trained
)

# %% [markdown]
# ## Sparse beside dense, held equal
#
# Differences from dense, at dense's sizes; between networks that were trained, curves are read linearly
# in the logarithm of the size, and where those beside differ beyond doubt the interval reaches `between`
# what either gives. The intervals of a table hold together in 95 %. `same` lies within the margin;
# `seeds` of each cell, or fewer, would tell a difference of the margin in 80 % of studies, by a line's
# own interval. What a new study needs, by the noise of all cells, stands under "How many seeds".

# %%
page.together(
    page.table(
        answers.compare(
            scores.final_values(grid.rows, scores.RETURN),
            at,
            margin=budgets.margin_or(grid, margin),
        ),
        f"{grid.label}: at equal {words}{tables.pack_note(grid) if at == 'train_seconds' else ''}",
        grid.query(),
    )
    for grid in trained
    if (grid.rows["sparsity"] == 0).any() and grid.pruned
    for at, words in answers.MATCHES.items()
)

# %% [markdown]
# ## Data to a threshold
#
# Env steps at which the isotonic fit of the mean learning curve first reaches a return (Rybkin et al.
# 2025). `>` marks cells that never do: they enter the fits as censored.

# %%
page.together(
    page.heading(grid.label)
    + page.table(budgets.data_table(grid, thresholds), rows=grid.query())
    + page.words(findings.data_words(grid, thresholds))
    for grid in trained
)

# %% [markdown]
# ## Performance profiles
#
# Of each task and way to prune, and of all tasks together where they differ in nothing else.

# %%
page.together(
    page.show(
        figures.performance_profiles(final, grid.label),
        f"profiles_{page.slug(grid.label)}",
        f"{grid.label}: share of runs above each normalised score",
        out,
        plots.profiles(final),
    )
    for grid in [*trained, *series.pool(trained)]
    for final in tables.normalised_finals(grid)
)
