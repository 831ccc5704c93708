# %% [markdown]
# # Runs
#
# Every run of the study; a click on a figure leads here.

# %%
from sparse_rl.analysis import load_all, origins, page, scores, tables

# %% tags=["parameters"]
studies = ["results/demo"]
out: str | None = None

# %%
runs, rows, problems = load_all(*studies)
absent = tables.missing(runs)
troubles = tables.troubles(problems, rows)

# %% [markdown]
# ## What is missing

# %%
page.together(
    [
        page.words([f"{len(runs) - len(absent)} of {len(runs)} runs ended done."]),
        page.table(absent, "Diverged runs count as untrained, the others are no points of a curve:")
        if len(absent)
        else "",
        page.table(troubles, "Files and runs that are not as they should be:") if len(troubles) else "",
    ]
)

# %% [markdown]
# ## All runs

# %%
page.Html(page.framed(origins.run_table(runs, rows, scores.RETURN), "all runs"))
