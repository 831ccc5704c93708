# %% [markdown]
# # Network health
#
# Are wide networks less healthy, and sparse ones healthier? A dormant unit is one that hardly ever
# answers; its ratio is the share of such units among those that are connected, measured after the
# nonlinearity. Norms are L2 over all surviving weights of a network.

# %%
from sparse_rl.analysis import figures, findings, load, page, plots, series, tables

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None

# %%
rows = load(*studies)
trained = [grid for grid in series.split(rows) if (grid.rows["status"] == "done").any()]
measured = [metric for metric in tables.HEALTH if metric in rows and rows[metric].notna().any()]

# %% [markdown]
# ## Width and sparsity

# %%
page.together(
    page.show(
        figures.heat_maps(grid.rows, grid.label),
        f"heat_map_{page.slug(grid.label)}",
        f"{grid.label}: return and dormant ratio by width and sparsity",
        out,
        plots.heat_maps(grid.rows),
    )
    for grid in trained
)

# %% [markdown]
# ## Values

# %%
page.together(
    page.heading(grid.label)
    + page.table(
        tables.cell_table(grid, measured), f"Interquartile mean over runs [{tables.kind(grid)}]."
    )
    for grid in trained
)

# %% [markdown]
# ## Health against score
#
# What goes together over runs need not be cause and effect: width and sparsity move both.

# %%
page.together(page.words(findings.association_words(grid, measured)) for grid in trained)

# %%
page.together(
    page.show(
        figures.health_against_score(grid.rows, label=grid.label),
        f"health_{page.slug(grid.label)}",
        f"{grid.label}: return against dormant ratio, a point per run",
        out,
        plots.health(grid.rows),
    )
    for grid in trained
    if "dormant_ratio/critic" in measured
)
