# %% [markdown]
# # Scaling curves
#
# What happens to the score as the network gets wider, and what does removing weights do to that curve?
# Intervals are 95 % over seeds: moderated t below ten runs of a cell, percentiles of a bootstrap from
# there on. With fewer than four runs the interquartile mean is the mean. A run's score is the mean over
# the last fifth of its training. A query finds the rows behind a number: `load(study).query("…")`.

# %%
from sparse_rl.analysis import (
    choices,
    figures,
    findings,
    laws,
    load_all,
    page,
    scores,
    series,
    tables,
)

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None

# %%
runs, rows, problems = load_all(*studies)
grids = list(series.split(rows))
absent = tables.missing(runs)
trained = [grid for grid in grids if (grid.rows["status"] == "done").any()]
trained += list(series.pool(trained))

# %% [markdown]
# ## What was found

# %%
page.together(
    page.heading(grid.label, grid.query()) + page.words(findings.words(grid, margin))
    for grid in trained
)  # fmt: skip

# %% [markdown]
# ## What is missing

# %%
page.together(
    [
        page.words([f"{len(runs) - len(absent)} of {len(runs)} runs ended done."]),
        page.table(absent, "Diverged runs count as untrained, the others are no points of a curve:")
        if len(absent)
        else "",
        page.table(tables.troubles(problems, rows), "Files and runs that are not as they should be:")
        if len(tables.troubles(problems, rows))
        else "",
    ]
)

# %% [markdown]
# ## Curves

# %%
page.together(
    page.show(
        figures.scaling_curves(grid.rows, grid.label),
        f"scaling_{page.slug(grid.label)}",
        f"Scaling curves on {grid.label}, dense beside sparse",
        out,
    )
    + page.show(
        figures.learning_curves(grid.rows, grid.label),
        f"learning_{page.slug(grid.label)}",
        f"Learning curves on {grid.label}",
        out,
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

# %% [markdown]
# ## Laws
#
# Each law is fitted to all sizes but the largest and asked for that one. `N` is the count of surviving
# parameters, `N0` the geometric mean of the sizes shown. Where the interval of a parameter reaches the
# ends of its range none of that law's is identified, and a law with more parameters than the data have
# sizes is refused. `left out` is the error at each size by the law fitted to the others, `weight` that
# of BIC on all sizes, `misfit` the chance of residuals as large if the law holds.


# %%
def law_section(grid: series.Series, sparsity: float) -> str:
    """Table and figure of the laws at one sparsity, or why there are none."""
    points = tables.curve_points(grid, sparsity)
    title = f"{grid.label}, sparsity {sparsity:g}"
    try:
        choice = choices.choose(laws.CURVES, points)
    except ValueError as error:
        return page.words([f"{title}: {error}."])
    label = figures.SIZES[tables.size_of(grid)]
    figure = figures.held_out(points, choice, label, figures.METRICS[scores.RETURN], title)
    name = f"laws_{page.slug(grid.label)}_{sparsity:g}"
    caption = f"Laws of {title}, fitted to the smaller sizes"
    return page.table(
        tables.law_table(choice, points), title, grid.query(sparsity=sparsity)
    ) + page.show(figure, name, caption, out)


def ended(grid: series.Series) -> list[float]:
    """Sparsities at which a run has ended."""
    return sorted(scores.final_values(grid.rows, scores.RETURN)["sparsity"].unique())


page.together(law_section(grid, sparsity) for grid in trained for sparsity in ended(grid))


# %% [markdown]
# ## Width and sparsity together
#
# One law for the whole grid: total parameters alone, surviving parameters alone, surviving parameters
# with a sparsity factor (Frantar et al. 2023), or a surface of second order.


# %%
def joint_section(grid: series.Series) -> str:
    """Table of the joint laws, or why there are none, and the best sparsity."""
    points, choice = tables.joint_points(grid), None
    try:
        choice = choices.choose(laws.JOINT, points)
        told = page.table(
            tables.law_table(choice, points).drop(columns=["predicted", "measured"]),
            grid.label,
            grid.query(),
        ) + page.words([findings.law_words(choice, "All sparsities")])
    except ValueError as error:
        told = page.words([f"{grid.label}: {error}."])
    best = tables.optimum_table(grid, choice)
    return told + page.table(best, f"{grid.label}: the best sparsity")


page.together(joint_section(grid) for grid in trained)
