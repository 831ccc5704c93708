# %% [markdown]
# # Compute-optimal networks
#
# What to spend a budget on: at equal FLOPs, time and parameters, which width and which sparsity? FLOPs
# are those of surviving weights; only block storage turns them into time.

# %%
from sparse_rl.analysis import answers, figures, findings, load, page, scores, series, tables

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]

# %% [markdown]
# ## The best network for a budget

# %%
page.together(
    page.table(tables.frontier(grid), f"{grid.label}: best cell at each budget of training FLOPs")
    + page.show(
        figures.iso_flops(grid.rows, tables.budgets(grid), grid.label),
        f"iso_flops_{page.slug(grid.label)}",
        f"Return at equal training FLOPs on {grid.label}",
        out,
    )
    for grid in trained
)

# %% [markdown]
# ## Sparse beside dense, held equal
#
# Differences from dense, at dense's sizes; between networks that were trained, curves are read linearly
# in the logarithm of the size. `better` is the share of resamples in which sparse scores higher.

# %%
page.together(
    page.table(
        answers.compare(scores.final_values(grid.rows, scores.RETURN), at),
        f"{grid.label}: at equal {words}",
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
    + page.table(tables.data_table(grid), rows=grid.query())
    + page.words(findings.data_words(grid))
    for grid in trained
)

# %% [markdown]
# ## Performance profiles

# %%
page.together(
    page.show(
        figures.performance_profiles(final, "all tasks"),
        "profiles",
        "Share of runs above each normalised score",
        out,
    )
    for final in tables.normalised_finals(rows)
)
