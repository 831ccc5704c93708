# %% [markdown]
# # Laws
#
# Each law is fitted to all sizes but the largest, and must predict that one: `held-out error` is how
# far it was off. `best in` is the share of resamples in which it was the closest. `left out` is the
# error when each size in turn is predicted from all others. `weight` is the law's share of belief by
# BIC, from all sizes. `misfit` is the chance of residuals as large as these if the law holds.
#
# In formulas `N` is the count of surviving parameters, and `N0` the geometric mean of the sizes that
# were fitted. If the interval of one parameter reaches the end of its range, none of that law's
# parameters is identified. A law with more parameters than there are sizes is refused.

# %%
from sparse_rl.analysis import (
    allocation,
    budgets,
    choices,
    figures,
    findings,
    laws,
    load,
    page,
    planning,
    plots,
    scores,
    series,
    surface,
    tables,
)

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None
margin: float | None = None

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]
alone = list(trained)
trained += list(series.pool(trained))

# %% [markdown]
# ## Size at one sparsity


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
    score = figures.label_of(grid.rows, scores.RETURN)
    figure = figures.held_out(points, choice, label, score, title)
    name = f"laws_{page.slug(grid.label)}_{sparsity:g}"
    caption = f"Laws of {title}, fitted to the smaller sizes"
    return page.table(
        tables.law_table(choice, points), title, grid.query(sparsity=sparsity)
    ) + page.show(figure, name, caption, out, plots.held_out(points, choice, label, score))


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

# %% [markdown]
# ## Size, data and budget
#
# How the best size grows with the budget (Hoffmann et al. 2022; Hilton et al. 2023), where three
# sizes or more have spent the same. `sparse-rl laws --with-data` fits exponents that many returns
# share.


# %%
def budget_section(grid: series.Series) -> str:
    """Laws of size and data and the exponents of the best size, or why there are none."""
    levels = ended(grid)
    level = 0.0 if 0.0 in levels else levels[0]
    title = f"{grid.label}, sparsity {level:g}"
    try:
        found = surface.surface(grid, level, allocation.FINE)
        allocation.refuse_no_budgets(found)
        told = surface.law_table(surface.surface(grid))
    except ValueError as error:
        return page.words([f"{title}: {allocation.TITLE} these runs cannot tell: {error}."])
    return page.table(told, f"{grid.label}: {surface.TITLE}") + page.table(
        allocation.table(found), f"{title}: {allocation.TITLE}"
    )


page.together(budget_section(grid) for grid in alone)

# %% [markdown]
# ## How many seeds
#
# So many seeds of each cell a new study like this one would need (`sparse-rl plan-seeds` says it,
# too).


# %%
def seeds_section(grid: series.Series) -> str:
    """Seeds that tell the margin at these runs' noise, or why that is not known."""
    share = budgets.MARGIN if margin is None else margin / budgets.margin_of(grid, 1.0)
    try:
        found = planning.plan(grid, share)
    except ValueError as error:
        return page.words([f"{grid.label}: {error}."])
    return page.words(found.words) + page.table(found.table, about=f"{grid.label}: seeds")


page.together(seeds_section(grid) for grid in alone)
