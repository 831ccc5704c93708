# %% [markdown]
# # Compute-optimal networks
#
# What to spend a budget on: at equal FLOPs, time and parameters, which width and which sparsity?
# FLOPs are those of surviving weights. Only block storage turns fewer FLOPs into less time.

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
# A run that ended before a budget was spent counts with its last value. A cell that had not begun at
# a budget is left out there. So is a budget at which nothing has learned.

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
# Each line compares a sparse network with the dense one (`reference`) of that size. Where no sparse
# network has that size, its curve is read between two that were trained, linearly in the logarithm of
# the size. Where those two differ beyond doubt, `between` is true, and the interval covers what
# either gives. The 95 % intervals of a table hold all at once. `same` means: within the margin. At
# most `seeds` seeds of each cell would tell a difference of the margin in 80 % of studies. That is
# judged by the line's own interval; "How many seeds" judges by the noise of all cells.

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
# How many env steps it takes until the mean learning curve reaches a return (its rising fit; Rybkin
# et al. 2025). `>` marks cells that never reach it: fits know of them only that it takes longer.

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
# Which share of runs scores above a value. One figure for each task and way to prune, and one of all
# tasks together where they differ in nothing else.

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
