# %% [markdown]
# # The calibration bench
#
# Zero-order policy gradient on a linear-quadratic regulator, where the optimum is known exactly: what do
# parallel workers buy, what does sparsity buy, and what does a mask cost? Time is taken when 1 % of the
# gap between the cost of no control and the optimum of the mask is left. Runs that did not get there and
# runs that diverged count as ∞ in every median.

# %%
from sparse_rl.analysis import load, load_runs, lqr, lqr_figures, lqr_words, page

# %% tags=["parameters"]
studies = ["results/lqr"]
out: str | None = None

# %%
found = lqr.outcomes(load_runs(*studies), load(*studies))
curves = lqr.speed_up(found)
simulated = curves[(curves["clock"] == "simulated") & (curves["pattern"] == "dense")]

# %% [markdown]
# ## What was found

# %%
page.words(lqr_words.words(found))

# %% [markdown]
# ## How runs ended

# %%
page.table(lqr.ledger(found), "A probe that does not stabilise the plant fails: it is no update.")

# %% [markdown]
# ## Workers
#
# Theory: without a barrier M workers bring M estimates in the time of one, and a small step makes each
# worth as much as if it were not late; the master that waits for the last brings M / E[max]. A larger
# step uses fewer estimates, but bears less delay: the step that is best for each M speeds up less.

# %%
page.together(
    page.show(
        lqr_figures.speed_up(group),
        f"lqr_speed_up_{page.slug(str(env))}_{width}",
        f"Speed-up on {env}, width {width}",
        out,
    )
    for (env, width), group in simulated.groupby(["env", "width"])
)

# %%
columns = [
    "width", "durations", "master", "choice", "workers", "step", "runs", "reached", "diverged", "time",
    "updates", "delay", "speed_up", "low", "high", "theory",
]  # fmt: skip
page.table(
    simulated[columns] if len(simulated) else simulated, "Times in mean durations of an estimate."
)

# %% [markdown]
# ## Free entries
#
# Theory: the estimate's variance grows with the number d of free entries, so a stable step is in
# proportion to 1/d and the updates to d. How fast the exact gradient flow dK/dt = −∇J inside the mask
# gets there depends on the mask too: `flow_updates` is its time over the step. What the mask itself
# costs is its structural gap, J(best gain of the mask) / J* − 1, by the exact oracle.

# %%
points, slopes = lqr.entries(found), lqr.slopes(found)
page.together(
    page.show(
        lqr_figures.entries(group, slopes[(slopes["env"] == env) & (slopes["width"] == width)]),
        f"lqr_entries_{page.slug(str(env))}_{width}",
        f"Updates and structural gap on {env}, width {width}",
        out,
    )
    for (env, width), group in (points.groupby(["env", "width"]) if len(points) else ())
)

# %%
page.together([page.table(points), page.table(slopes)])

# %% [markdown]
# ## Free entries and workers together
#
# Each cell at the best of its steps. With one worker the step is limited by the variance, so by d; with
# many it is limited by the delay, whatever d.

# %%
both = lqr.joint(found)
page.together(
    page.show(
        lqr_figures.joint(group),
        f"lqr_map_{page.slug(str(env))}_{width}",
        f"Time to 1 % by free entries and workers on {env}, width {width}",
        out,
    )
    + page.table(group.drop(columns=["env", "width", "runs"]))
    for (env, width), group in (both.groupby(["env", "width"]) if len(both) else ())
)

# %% [markdown]
# ## Real workers

# %%
real = lqr.throughput(found)
page.together(
    [
        page.show(lqr_figures.throughput(real), "lqr_real", "Estimates per second of real workers", out)
        + page.table(real)
        if len(real)
        else page.words(["No run was on the real clock."])
    ]
)
