"""DrQ-v2: the paper's equations by hand, shifts beside plain loops, and what it learns from pictures."""

import dataclasses
import functools
import runpy
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig, off_policy, places
from jax import Array
from PIL import Image
from scipy import stats

from sparse_rl.agents import drq
from sparse_rl.experience.augmentation import random_shift, shifted
from sparse_rl.experience.frames import NStep
from sparse_rl.networks.convolutions import DrqKind, layer_name
from sparse_rl.networks.dense import applications
from sparse_rl.networks.drq import (
    HEADS,
    Encoder,
    PixelActor,
    TwinCritic,
    encoded_size,
    encoder_parameters,
    pixel_actor_parameters,
    twin_critic_parameters,
)
from sparse_rl.pruning import parameter_counts, support_masks
from sparse_rl.records import results
from sparse_rl.records.checkpoints import write_arrays
from sparse_rl.runs.film import film
from sparse_rl.runs.pack import compile_programs, prepare_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(0)
NETWORKS = ("actor", "critic", "encoder")


class Start(NamedTuple):
    """DrQ before its first update."""

    parts: drq.Drq
    state: Any
    update: Any


@functools.cache
def start(config: RunConfig) -> Start:
    """Of a run; its update compiled once for all tests of the same configuration."""
    loop, inputs = off_policy(config)
    state = jax.jit(loop.agent.init)(KEY, inputs)
    return Start(drq.build(config, loop.env), state, jax.jit(loop.agent.update))


def pruned(make_config: MakeConfig, storage: str) -> RunConfig:
    """Half of every network removed."""
    pattern = "block" if storage == "block" else "unstructured"
    pruning = {"pattern": pattern, "storage": storage, "encoder_sparsity": 0.5}
    return make_config(sparsity=0.5, width=32, agent={"name": "drq"}, pruning=pruning)


def batch_of(n: int, seed: int = 1) -> NStep:
    keys = jax.random.split(jax.random.key(seed), 5)
    pictures = jax.random.randint(keys[0], (2, n, 16 * 16 * 2), 0, 256).astype(jnp.uint8)
    return NStep(
        pictures[0],
        jax.random.uniform(keys[1], (n, 1), minval=-1.0),
        jax.random.normal(keys[2], (n,)),
        pictures[1],
        jnp.where(jnp.arange(n) % 4 == 0, 0.0, 0.9),
    )


def bilinear(picture: np.ndarray, offset: np.ndarray, pad: int) -> np.ndarray:
    """A window of the padded picture, each pixel read between its four neighbours in plain loops, at
    coordinates that are scaled to [−1, 1] and back as in the public code."""
    height, width, channels = picture.shape
    whole = (height + 2 * pad, width + 2 * pad)
    window = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            at: list[float] = []
            for k, side in zip((i, j), whole, strict=True):
                share = -1 + (2 * k + 1) / side + offset[len(at)] * 2 / side
                at.append(((share + 1) * side - 1) / 2)
            low = [int(np.floor(a + 1e-9)) for a in at]
            for di in (0, 1):
                for dj in (0, 1):
                    weight = abs(1 - di - (at[0] - low[0])) * abs(1 - dj - (at[1] - low[1]))
                    row = min(max(low[0] + di - pad, 0), height - 1)
                    column = min(max(low[1] + dj - pad, 0), width - 1)
                    window[i, j] += weight * picture[row, column]
    return window


def test_shifts_are_windows_of_the_padded_picture() -> None:
    pictures = jax.random.randint(KEY, (4, 9, 9, 3), 0, 256).astype(jnp.uint8)
    offset = np.array([[0, 8], [4, 4], [7, 1], [3, 5]])
    found = np.asarray(shifted(pictures, jnp.asarray(offset), 4))
    assert found.dtype == np.uint8
    for one, expected, by in zip(found, np.asarray(pictures), offset, strict=True):
        np.testing.assert_allclose(one, bilinear(expected, by, 4), atol=1e-4)
    np.testing.assert_array_equal(found[1], pictures[1])  # four of four pixels: nothing moves


def test_shifts_are_drawn_apart_in_both_directions_and_cover_their_range() -> None:
    """Of 5000 pictures each of 25 shifts by up to two pixels has as many."""
    rows, columns = np.mgrid[:9, :11].astype(np.float32)
    picture = jnp.asarray(100 * rows + columns)[..., None]
    many = random_shift(jnp.broadcast_to(picture, (5000, 9, 11, 1)), KEY, 2)
    moved, counts = np.unique(np.asarray(many[:, 4, 5, 0]) - 405, return_counts=True)
    assert moved.tolist() == [100 * i + j for i in range(-2, 3) for j in range(-2, 3)]
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    ("kind", "picture", "width", "channels", "features"),
    [("drq", (84, 84, 9), 1024, 32, 50), ("drq_strided", (48, 48, 3), 24, 6, 5)],
)
def test_parameters_are_those_of_the_closed_forms(
    kind: DrqKind, picture: tuple[int, int, int], width: int, channels: int, features: int
) -> None:
    """The first is the published network: 30,368 in the encoder, whose output is 32 × 35 × 35."""
    pictures, action = jnp.zeros((1, *picture), jnp.uint8), jnp.zeros((1, 2))
    seen = encoded_size(kind, channels, picture)
    networks: list[tuple[nn.Module, tuple[Any, ...], int]] = [
        (Encoder(kind, channels, picture), (pictures,), encoder_parameters(kind, channels, picture)),
        (
            PixelActor(width, features, 2),
            (jnp.zeros((1, seen)),),
            pixel_actor_parameters(seen, width, features, 2),
        ),
        (
            TwinCritic(width, features),
            (jnp.zeros((1, seen)), action),
            twin_critic_parameters(seen, width, features, 2),
        ),
    ]
    for network, inputs, expected in networks:
        shapes = jax.eval_shape(network.init, KEY, *inputs)["params"]
        assert parameter_counts({}, shapes).total == expected
    made = jax.eval_shape(networks[0][0].init_with_output, KEY, pictures)[0]
    assert made.shape == (1, seen)
    if kind == "drq":
        assert (seen, networks[0][2]) == (32 * 35 * 35, 30_368)


@pytest.mark.parametrize("kind", ["drq", "drq_strided"])
def test_the_encoder_is_the_published_convolutions(kind: DrqKind) -> None:
    picture = (24, 24, 6)
    pictures = jax.random.randint(KEY, (2, *picture), 0, 256).astype(jnp.uint8)
    network = Encoder(kind, 4, picture)
    params = network.init(KEY, pictures)["params"]
    strides = {"drq": (2, 1, 1, 1), "drq_strided": (2, 2, 1)}[kind]

    @jax.jit
    def published(x: Array) -> list[Array]:
        made, layout = [x / 255.0 - 0.5], ("NHWC", "HWIO", "NHWC")
        for name, stride in zip(("conv", "conv_2", "conv_3", "conv_4"), strides, strict=False):
            kernel = params["trunk"][name]["kernel"].reshape(3, 3, made[-1].shape[-1], 4)
            y = jax.lax.conv_general_dilated(
                made[-1], kernel, (stride, stride), "VALID", dimension_numbers=layout
            )
            made.append(nn.relu(y))
        return made[1:]

    layers = published(pictures)
    for i, x in enumerate(layers):
        path = f"trunk/{layer_name(i)}/kernel"
        assert applications(kind, path, picture) == x.shape[1] * x.shape[2]
    found = network.apply({"params": params}, pictures.reshape(2, -1))
    np.testing.assert_allclose(found, layers[-1].reshape(2, -1), rtol=1e-3, atol=1e-5)


def test_noise_falls_with_env_steps_and_is_clipped_in_the_losses(make_config: MakeConfig) -> None:
    """Twenty random interactions, one update each after that; 1.0 → 0.1 within 500 env steps."""
    parts = start(make_config(agent={"name": "drq"})).parts
    found = [float(drq.noise_scale(parts, jnp.int32(updates))) for updates in (0, 230, 480, 10_000)]
    np.testing.assert_allclose(found, [1 - 0.9 * 20 / 500, 0.55, 0.1, 0.1], rtol=1e-5)
    action, scale = jnp.zeros((1000, 1)), jnp.float32(1.0)
    free, clipped = (drq.with_noise(action, scale, KEY, clip) for clip in (None, 0.3))
    assert float(jnp.std(drq.with_noise(action, jnp.float32(0.2), KEY))) == pytest.approx(0.2, rel=0.1)
    assert float(jnp.abs(free).max()) == pytest.approx(1.0, abs=1e-5)
    assert float(jnp.abs(clipped).max()) == pytest.approx(0.3)
    # at the limits the action still has a gradient, as if nothing had been cut off
    slope = jax.grad(lambda a: jnp.sum(drq.with_noise(a, scale, KEY)))(jnp.full((5, 1), 0.99))
    np.testing.assert_array_equal(slope, 1.0)


def test_td_target_takes_the_smaller_critic_and_what_the_future_is_worth(
    make_config: MakeConfig,
) -> None:
    parts, state, _ = start(make_config(agent={"name": "drq"}))
    target = jax.tree.map(jnp.zeros_like, state.target)
    target["first_value"]["bias"] = jnp.array([3.0])
    target["second_value"]["bias"] = jnp.array([-1.0])
    batch = batch_of(8)
    seen = jnp.zeros((8, encoded_size("drq_strided", parts.encoder.channels, (16, 16, 2))))
    y = drq.td_target(parts, state._replace(target=target), batch, seen, KEY)
    np.testing.assert_allclose(y, batch.reward - batch.bootstrap, rtol=1e-5)


def stored_copies(state: Any, network: str) -> dict[str, Any]:
    """Everything that has the shape of a network's parameters."""
    adam = state.optimisers[network][0]
    copies = {"parameters": getattr(state, network), "mu": adam.mu, "nu": adam.nu}
    return copies | ({"target": state.target} if network == "critic" else {})


@pytest.mark.parametrize("storage", ["masked", "block"])
def test_a_pruned_weight_does_not_exist(make_config: MakeConfig, storage: str) -> None:
    """In no network, the encoder among them, however it is stored; and what is left learns."""
    config = pruned(make_config, storage)
    _, before, update = start(config)
    state, masks = before, support_masks(before.supports)
    for i in range(8):
        state, metrics = update(state, batch_of(16, seed=i), jax.random.key(i))
    assert np.isfinite(float(metrics["loss/critic"]))
    (run,) = prepare_pack([config]).runs
    for network in NETWORKS:
        total, kept = run.costs.parameters[network]
        assert kept < total
        for name, tree in stored_copies(state, network).items():
            if storage == "masked":
                gone = places(masks[network], tree)
                assert gone.size == total - kept
                assert not gone.any(), f"{network} {name}"
            else:  # stored in whole blocks: the pruned places are nowhere
                assert sum(leaf.size for leaf in jax.tree.leaves(tree)) < total
        leaves = (jax.tree.leaves(getattr(s, network)) for s in (before, state))
        assert any((a != b).any() for a, b in zip(*leaves, strict=True))


def test_the_actors_loss_leaves_the_encoder_alone(make_config: MakeConfig) -> None:
    """Where the critic's loss has no gradient, only the actor's could move the encoder."""
    _, state, update = start(pruned(make_config, "masked"))
    heads = [f"{head}_value" for head in HEADS]
    critic = state.critic | {head: jax.tree.map(jnp.zeros_like, state.critic[head]) for head in heads}
    batch = batch_of(16)._replace(reward=jnp.zeros(16), bootstrap=jnp.zeros(16))
    after, metrics = update(state._replace(critic=critic), batch, KEY)
    assert float(metrics["grad_norm/encoder"]) == float(metrics["loss/critic"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, after.encoder, state.encoder)


def test_it_acts_on_what_two_pictures_showed(make_config: MakeConfig, tmp_path: Path) -> None:
    """The sign is in the older picture, the reward two steps after it; the best return is 0. At the end
    an episode is filmed."""
    steps = 1500
    budget = {"env_steps": steps, "log_every": steps, "eval_every": steps}
    config = make_config(agent={"name": "drq"}, width=32, env={"eval_episodes": 20}, **budget)
    loop, inputs = off_policy(config)
    programs = compile_programs(loop, [inputs], "map")
    state, row = programs.chunk(np.int32(0), programs.init(inputs))
    score = programs.evaluate(np.int32(steps), state)
    assert float(score["return_mean"]) > -0.02  # a constant action at best −0.25
    assert float(score["episode_length_mean"]) == 2.0
    assert 0.1 <= float(row["exploration_noise"]) < 0.6
    # twenty random interactions, then an update each; episodes of two fill three rows of the buffer,
    # which has room for all of them
    assert int(state.agent.updates) == steps - 20
    (run,) = prepare_pack([config]).runs
    assert run.costs.updates == steps - 20
    assert run.costs.replay_bytes == (steps + steps // 2) * (16 * 16 + 4 + 4 + 2) + 8
    assert state.replay.rows.reward.size == int(state.replay.size[0]) == steps + steps // 2
    assert int(np.sum(~state.replay.rows.last)) == steps
    assert state.normaliser.mean.high.size == 0  # pictures are not normalised

    results.write_config(tmp_path, dataclasses.asdict(config))
    write_arrays(tmp_path / results.PARAMETERS, loop.trained(state))
    path, shown = film(tmp_path, seed=3)
    assert -0.02 < shown <= 0.0
    with Image.open(path) as image:
        assert image.size == (192, 192)
        assert getattr(image, "n_frames", 1) == 2
        first = np.asarray(image.convert("L"))
    # the first picture is bright on one side
    assert sorted((first[:, :96].mean(), first[:, 96:].mean())) == [0, 255]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": {"name": "drq"}, "env": {"source": "gymnax", "task": "Pendulum-v1"}}, "shows none"),
        ({"env": {"source": "pixels", "task": "cartpole_swingup"}}, "choose one of drq"),
        ({"agent": {"name": "drq", "random_interactions": 2}}, "n_steps"),
        ({"agent": {"name": "drq", "replay_size": 4}}, "replay_size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_pack([make_config(**changes)])


def test_our_curve_is_compared_with_the_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the runs that docs/drq.md shows; their last returns are 779, 791, 817, 838 and 863."""
    root = Path(__file__).parents[2]
    with tarfile.open(root / "docs" / "results" / "drq.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    frames = range(20_000, 400_001, 20_000)
    public = [(seed, frame, 800.0) for seed in (1, 2) for frame in frames]
    csv = tmp_path / "public.csv"
    pd.DataFrame(public, columns=["seed", "frame", "episode_reward"]).to_csv(csv)
    monkeypatch.syspath_prepend(root / "benchmarks")
    compare = runpy.run_path(str(root / "benchmarks" / "drq_against_public.py"))
    found = compare["curves"](str(tmp_path / "drq"), str(csv), 128)
    assert {whose: returns.shape for whose, returns in found.items()} == {
        "DrQ-v2, public": (2, 10),
        "ours": (5, 10),
    }
    table = compare["compared"](found).set_index("part")
    assert table.loc["last point", "DrQ-v2, public"] == "800"  # seeds that are equal have no interval
    assert table.loc["last point", "ours"].startswith("815 ")  # (791 + 817 + 838) / 3
    assert table.loc["last point", "difference"].startswith("+15 ")
