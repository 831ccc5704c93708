# %% [markdown]
# # Does removing weights before training help at this width?

# %%
from sparse_rl.analysis import budgets, figures, findings, front, load, page, plots, scores, series

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]
trained = [*series.pool(trained), *trained]


# %%
def scaling(grid: series.Series) -> str:
    """The scaling figure of a grid; the page begins with the return alone."""
    return page.show(
        figures.scaling_curves(grid.rows, grid.label, [scores.RETURN]),
        f"scaling_{page.slug(grid.label)}",
        f"Return by size. {figures.note(grid.rows)}",
        out,
        plots.scaling(grid.rows, [scores.RETURN]),
        front.scaling_words(grid),
    )


margins = [budgets.margin_or(grid, margin) for grid in trained]
compared = [front.compared(grid, delta) for grid, delta in zip(trained, margins, strict=True)]
page.together(
    front.overview(grid, found, delta, scaling(grid))
    for grid, found, delta in zip(trained, compared, margins, strict=True)
)

# %% [markdown]
# ## What was found
#
# Behind "rows" stands a query: `load(study).query("…")` finds the rows of a number. Brackets hold 95
# % intervals.

# %%
page.together(
    page.heading(grid.label, grid.query()) + page.words(findings.words(grid, margin))
    for grid in trained
)  # fmt: skip


# %% [markdown]
# ## Every comparison


# %%
def comparisons(grid: series.Series, found: front.Comparisons | str, delta: float) -> str:
    """All comparisons of a grid with their intervals, or why there are none."""
    if isinstance(found, str):
        return page.words([f"{grid.label}: {found}."])
    if all(table.empty for table in found.values()):
        return page.words([f"{grid.label}: no dense network has a sparse counterpart."])
    return page.show(
        front.forest(found, delta, grid.label),
        f"forest_{page.slug(grid.label)}",
        f"{grid.label}: sparse less dense with 95 % intervals; shaded: within {delta:.4g}, which "
        "does not matter; a triangle at the edge stands for what lies beyond it",
        out,
        front.forest_plot(found, delta),
        front.answer(found, delta),
    )


page.together(map(comparisons, trained, compared, margins))
