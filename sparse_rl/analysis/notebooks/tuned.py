# %% [markdown]
# # Every cell at its best setting
#
# To compare widths at one learning rate is to compare how well that rate suits them. Here each cell
# has the setting that suits it, and no seed judges a choice that it had a part in.

# %%
from sparse_rl.analysis import (
    answers,
    budgets,
    figures,
    findings,
    load_all,
    page,
    scores,
    series,
    tables,
    tuning,
)

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None
tune = "agent.learning_rate"
tune_seeds: tuple[int, ...] = ()

# %%
tuned = tuning.tune(load_all(*studies, by=[tune]).rows, tune, tune_seeds)
trained = [grid for grid in series.split(tuned.rows) if (grid.rows["status"] == "done").any()]

# %% [markdown]
# ## What was chosen

# %%
page.together(
    [page.words(tuned.words), page.table(tuned.choices, f"The setting of {tune} in each cell.")]
)

# %% [markdown]
# ## What was found

# %%
page.together(
    page.heading(grid.label)
    + page.words(findings.words(grid, margin))
    + page.show(
        figures.scaling_curves(grid.rows, grid.label),
        f"tuned_{page.slug(grid.label)}",
        f"Scaling curves on {grid.label}, each cell at its own {tune}",
        out,
    )
    + page.table(tables.cell_table(grid), f"Interquartile mean over judging runs [{tables.kind(grid)}].")
    for grid in trained
)

# %% [markdown]
# ## Sparse beside dense, each at its best

# %%
page.together(
    page.table(
        answers.compare(
            scores.final_values(grid.rows, scores.RETURN),
            at,
            margin=budgets.margin_or(grid, margin),
        ),
        f"{grid.label}: at equal {answers.MATCHES[at]}",
    )
    for grid in trained
    if (grid.rows["sparsity"] == 0).any() and grid.pruned
    for at in ("width", "parameters_nonzero")
)
