"""What static sparsity is compared with: masks that change exactly, and networks that start anew."""

import functools
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig, batch_of, off_policy, places
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sparse_rl
from sparse_rl.agents import comparators, q_learner, sac
from sparse_rl.agents.comparators import dense_gradients
from sparse_rl.pruning import dynamic, support_masks
from sparse_rl.records.checkpoints import from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

pytestmark = pytest.mark.usefixtures("without_health")
KEY = jax.random.key(0)


def test_the_strongest_are_counted_exactly_and_ties_go_to_the_first() -> None:
    score = jnp.array([[1.0, 3.0, 3.0], [2.0, 9.0, 3.0]])
    among = jnp.array([[True, True, True], [True, False, True]])
    for count, expected in ((0, []), (2, [1, 2]), (3, [1, 2, 5]), (5, [0, 1, 2, 3, 5])):
        chosen = dynamic.strongest(score, among, count)
        assert np.flatnonzero(chosen).tolist() == expected


def test_an_exchange_drops_the_weakest_and_grows_the_best_scored() -> None:
    mask = jnp.array([True, True, True, True, False, False])
    weights = jnp.array([-0.1, 5.0, 0.2, -4.0, 0.0, 0.0])
    score = jnp.array([0.0, 9.0, 7.0, 9.0, 8.0, 1.0])
    change = dynamic.exchange(mask, weights, score, 0.5)  # two of four go: places 0 and 2
    assert np.flatnonzero(change.mask).tolist() == [1, 2, 3, 4]
    assert np.flatnonzero(change.kept).tolist() == [1, 2, 3]  # 2 grows again at once, as it is; 4 from 0
    still = dynamic.exchange(mask, weights, score, 0.2)  # less than one of four
    np.testing.assert_array_equal(still.mask, mask)
    full = dynamic.exchange(jnp.ones(6, bool), weights, score, 0.5)  # nowhere else to grow
    assert np.all(full.kept)
    assert np.all(full.mask)


def test_shrinking_keeps_the_largest() -> None:
    mask = jnp.array([True, True, True, False])
    change = dynamic.shrink(mask, jnp.array([1.0, -3.0, 2.0, 0.0]), 2)
    assert np.flatnonzero(change.mask).tolist() == [1, 2]


def test_schedules_by_hand() -> None:
    shares = [float(dynamic.cosine_share(0.3, t, 0.75)) for t in (0.0, 0.375, 0.75, 1.0)]
    np.testing.assert_allclose(shares, [0.3, 0.15, 0.0, 0.0], atol=1e-7)
    # half way, 1 − (1/2)³ = 7/8 of the way down from 1000 to 200 is gone
    counts = [int(dynamic.gradual_count(1000, 200, t, 0.2, 0.8)) for t in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert counts == [1000, 1000, 300, 200, 200]


def changing(make_config: MakeConfig, method: str, **more: Any) -> RunConfig:
    pruning = {"method": method, "change_every": 10}
    return make_config(sparsity=0.8, pruning=pruning, env_steps=200, **more)


def survivors(state: Any) -> dict[str, int]:
    return {
        jax.tree_util.keystr(path): int(mask.sum())
        for path, mask in jax.tree_util.tree_leaves_with_path(support_masks(state.supports))
    }


def nothing_where_pruned(learner: Any) -> None:
    masks = support_masks(learner.supports)
    for name, trees in {
        "actor": [learner.actor],
        "critic": [learner.critic, learner.target],
    }.items():
        adam = learner.optimisers[name][0]
        for tree in (*trees, adam.mu, adam.nu):
            assert not places(masks[name], tree).any()


@pytest.mark.parametrize("method", ["gradual", "set", "rigl"])
def test_masks_change_exactly_and_leave_nothing_behind(make_config: MakeConfig, method: str) -> None:
    loop, inputs = off_policy(changing(make_config, method))
    static = off_policy(make_config(sparsity=0.8))[0].agent.init(KEY, inputs)
    before = jax.jit(loop.init)(inputs)
    chunk = jax.jit(loop.chunk).lower(np.int32(0), before).compile()  # cannot compile again
    state, row = chunk(np.int32(0), before)
    if method == "gradual":
        assert row["density/critic"] > 0.3
        assert all(np.all(mask) for mask in jax.tree.leaves(before.agent.learner.supports))
    else:
        assert survivors(before.agent.learner) == survivors(static)
        changed = jax.tree.map(
            lambda a, b: np.any(a != b), before.agent.learner.supports, state.agent.learner.supports
        )
        assert any(jax.tree.leaves(changed))
    nothing_where_pruned(state.agent.learner)
    state, row = chunk(np.int32(100), state)
    assert survivors(state.agent.learner) == survivors(static)
    assert row["density/critic"] == pytest.approx(0.2, abs=0.02)
    nothing_where_pruned(state.agent.learner)


def leaves(*trees: Any) -> Any:
    """The leaves of trees of one form beside each other; no support is a leaf."""
    flat = [jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) for tree in trees]
    return zip(*flat, strict=True)


def gone(before: Any, after: Any) -> float:
    """Share of the places that are trained no longer."""
    old, new = (jax.tree.leaves(learner.supports) for learner in (before, after))
    lost = sum(int(np.sum(a & ~b)) for a, b in zip(old, new, strict=True))
    return lost / sum(int(np.sum(mask)) for mask in old)


def taught(learner: Any) -> Any:
    """With targets and moments that differ from weights and from nothing."""
    masks = support_masks(learner.supports)

    def beside(name: str, shift: float) -> Any:
        network = getattr(learner, name)
        flat = [
            x if m is None else jnp.where(m, shift + x, 0.0) for x, m in leaves(network, masks[name])
        ]
        return jax.tree.unflatten(jax.tree.structure(network), flat)

    def optimiser(name: str) -> Any:
        adam, *rest = learner.optimisers[name]
        return (adam._replace(mu=beside(name, 2.0), nu=beside(name, 3.0)), *rest)

    optimisers = dict(learner.optimisers) | {name: optimiser(name) for name in masks}
    return learner._replace(target=beside("critic", 1.0), optimisers=optimisers)


def held(learner: Any) -> dict[str, list[Any]]:
    """network → everything that is held for each of its weights."""
    adam = {name: learner.optimisers[name][0] for name in ("actor", "critic")}
    return {
        "actor": [learner.actor, adam["actor"].mu, adam["actor"].nu],
        "critic": [learner.critic, learner.target, adam["critic"].mu, adam["critic"].nu],
    }


@pytest.mark.parametrize("method", ["gradual", "set", "rigl"])
def test_what_stays_keeps_what_it_learned_and_what_grows_starts_at_nothing(
    make_config: MakeConfig, method: str
) -> None:
    """Both critics, their targets and all moments; a tensor that its mask leaves whole is as before. The
    share that is exchanged falls as half a cosine, from a half to none at four fifths of 180 updates."""
    loop, inputs = off_policy(changing(make_config, method, agent={"clipped_double_q": True}))
    occasional = loop.agent.occasional
    assert occasional is not None
    start, change = jax.jit(loop.agent.init)(KEY, inputs), jax.jit(occasional.change)
    before = taught(start.learner)
    assert sorted(before.critic) == ["0", "1"]
    at = {
        updates: change(start._replace(learner=before), batch_of(16), jnp.int32(updates)).learner
        for updates in (1, 72, 144)
    }
    masks, new_masks = (support_masks(learner.supports) for learner in (before, at[72]))
    whole = 0
    for name in masks:
        for was, now in zip(held(before)[name], held(at[72])[name], strict=True):
            for old, new, mask, new_mask in leaves(was, now, masks[name], new_masks[name]):
                stays = np.ones(old.shape, bool) if mask is None else np.asarray(mask & new_mask)
                np.testing.assert_array_equal(new, np.where(stays, old, 0.0))
                whole += mask is not None and bool(np.all(stays))
    shares = {updates: gone(before, learner) for updates, learner in at.items()}
    if method == "gradual":
        assert shares[1] == 0.0  # not begun
        assert shares[144] == pytest.approx(0.8, abs=0.02)
    else:
        assert whole > 0
        assert 0.25 < shares[1] <= 0.5  # some of what was dropped grows again at once
        assert 0.0 < shares[72] <= 0.25
        assert shares[144] == 0.0


def test_settings_are_those_published_for_sac(make_config: MakeConfig) -> None:
    """Graesser et al. 2022, public code: sac_mujoco_sparse_config.gin and …_pruning_config.gin."""
    conf = Path(sparse_rl.__file__).parent / "conf"
    for preset in ("set", "rigl", "gradual"):
        with initialize_config_dir(str(conf), version_base="1.3"):
            composed = OmegaConf.to_container(compose("sweep", [f"pruning={preset}"]))
        assert isinstance(composed, dict)
        plain = make_config(pruning={"method": preset})
        for config in (make_config(pruning=composed["pruning"]), plain):
            read = config.pruning
            assert (read.method, read.change_every) == (preset, 1000)
            assert (read.change_until, read.drop_share) == (0.8, 0.5)
    assert comparators.GRADUAL_SPAN == (0.2, 0.8)


def test_a_setting_that_a_method_does_not_read_makes_no_other_run(make_config: MakeConfig) -> None:
    def ids(method: str, key: str) -> int:
        settings = [{"method": method, key: value} for value in (0.25, 0.5)]
        if key == "change_every":
            settings = [{"method": method, key: value} for value in (10, 20)]
        return len({make_config(sparsity=0.8, pruning=each).run_id for each in settings})

    keys = ("change_every", "change_until", "drop_share")
    told = {method: [ids(method, key) for key in keys] for method in dynamic.METHODS}
    assert told == {"static": [1, 1, 1], "gradual": [2, 1, 1], "set": [2, 2, 2], "rigl": [2, 2, 2]}


def test_a_state_with_changed_masks_comes_back_from_disk(make_config: MakeConfig) -> None:
    loop, inputs = off_policy(changing(make_config, "set"))
    state, _ = jax.jit(loop.chunk)(0, jax.jit(loop.init)(inputs))
    again = from_arrays(jax.eval_shape(loop.init, inputs), to_arrays(state))
    (_, there), (_, back) = (jax.jit(loop.chunk)(100, s) for s in (state, again))
    assert {k: float(v) for k, v in there.items()} == {k: float(v) for k, v in back.items()}


def test_dense_gradients_are_those_of_the_loss_at_every_place(make_config: MakeConfig) -> None:
    config = make_config(sparsity=0.8)
    loop, inputs = off_policy(config)
    learner, batch = loop.agent.init(KEY, inputs), batch_of(16)
    scores = dense_gradients(loop.agent, learner, batch, KEY)
    full = learner._replace(supports=jax.tree.map(jnp.ones_like, learner.supports))
    learner_of = loop.agent.update.__wrapped__.args[0]  # type: ignore[attr-defined]
    loss = functools.partial(
        sac._actor_loss,
        learner_of,
        q_learner.made_critics(full)[0],
        full,
        batch.observation,
        jax.random.split(KEY)[0],
    )
    grads = jax.grad(lambda actor: loss(actor)[0])(learner.actor)
    jax.tree.map(
        lambda s, g: np.testing.assert_allclose(s, 0.1 * np.abs(g), rtol=1e-4, atol=1e-7),
        scores["actor"],
        grads,
    )
    masks = support_masks(learner.supports)
    assert places(masks["actor"], scores["actor"]).any()
    assert places(masks["critic"], scores["critic"]).any()


@pytest.mark.parametrize(("sparsity", "every"), [(0.0, 80), (0.8, 20)])
def test_a_reset_starts_anew_with_the_same_masks(
    make_config: MakeConfig, sparsity: float, every: int
) -> None:
    # the first chunk has 20 random interactions and 80 updates, the second 100; none after the last
    config = make_config(sparsity=sparsity, agent={"reset_every": every})
    loop, inputs = off_policy(config)
    times = {80: 2, 20: 8}[every]
    said = f"networks start anew {times} times, the last ones learn for 20 updates"
    assert loop.describe().endswith(f"interactions random; {said}")
    start = jax.jit(loop.init)(inputs)
    state, _ = jax.jit(loop.chunk)(0, start)
    learner = state.agent.learner
    assert int(learner.optimisers["critic"][0].count) == 0
    jax.tree.map(np.testing.assert_array_equal, learner.supports, start.agent.learner.supports)
    assert np.any(learner.actor["mean"]["kernel"] != start.agent.learner.actor["mean"]["kernel"])
    assert int(state.replay.size) == 100
    state, _ = jax.jit(loop.chunk)(100, state)
    assert int(state.agent.learner.optimisers["critic"][0].count) == 20


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent": {"name": "ppo"}, "pruning": {"method": "rigl"}}, "not for ppo"),
        ({"pruning": {"method": "set", "storage": "compact"}}, "pruning.storage=masked"),
        ({"pruning": {"method": "set", "pattern": "block"}}, "other than block"),
        ({"pruning": {"method": "gradual"}, "agent": {"reset_every": 10}}, "not both"),
        ({"pruning": {"method": "magnitude"}}, "one of static, gradual, set, rigl"),
    ],
)
def test_what_cannot_change_is_refused(
    make_config: MakeConfig, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make_config(**changes)


def test_static_runs_are_not_wrapped(make_config: MakeConfig) -> None:
    assert off_policy(make_config(sparsity=0.8))[0].agent.occasional is None
    dense = make_config(pruning={"method": "rigl"})
    assert off_policy(dense)[0].agent.occasional is None


def test_the_comparison_tells_ways_apart_by_what_varies_in_the_study() -> None:
    """Where some runs of a study reset, the variant of every other names resets too, as None."""
    ways = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "patterns.py"))["ways"]
    never, often = "agent.reset_every=None", "agent.reset_every=1500"
    rows = [
        (0.0, "unstructured", "static", f"{never} pruning.method=static", "dense"),
        (0.0, "unstructured", "static", f"{often} pruning.method=static", "dense, with resets"),
        (0.9, "unstructured", "static", f"{never} pruning.method=static", "unstructured"),
        (0.9, "unstructured", "rigl", f"{never} pruning.method=rigl", "rigl"),
        (0.9, "unstructured", "set", "", "set"),
        (0.9, "block", "static", "", "block"),
    ]
    final = pd.DataFrame(rows, columns=["sparsity", "pattern", "method", "variant", "way"])
    assert ways(final).tolist() == final["way"].tolist()
