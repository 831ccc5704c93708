"""The control suite through its own cameras, and DrQ on environments of the host."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import pytest
import yaml
from conftest import MakeConfig
from host_env import on_host
from PIL import Image

from sparse_rl import envs
from sparse_rl.envs import probe, registry
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted.off_policy import Compiled, Driver, HostOffPolicyLoop
from sparse_rl.records import results
from sparse_rl.runs.film import film
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.envs import DmControlPixelsConfig
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError
from sparse_rl.simulators import renderers

dm_control = pytest.importorskip("dm_control.suite", reason="needs the extra dmc")

from test_dm_control import interrupt_and_kill  # noqa: E402

CONF = Path(envs.__file__).parents[1] / "conf"
SOURCE: Final = "dm_control_pixels"


def _none_works() -> str:
    try:
        renderers.choose("the suite")
    except ConfigError as error:
        return str(error)
    return ""


NONE_WORKS = _none_works()
drawn = pytest.mark.skipif(bool(NONE_WORKS), reason=NONE_WORKS)


def test_renderers_are_tried_in_turn_and_what_they_said_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, str | None] = {"egl": "no display", "osmesa": None, "glfw": "no screen"}
    monkeypatch.setattr(renderers, "complaint", answers.__getitem__)
    monkeypatch.delenv(renderers.VARIABLE, raising=False)
    assert renderers.choose("x") == "osmesa"
    monkeypatch.setenv(renderers.VARIABLE, "glfw")  # what the user chose is not replaced
    with pytest.raises(ConfigError, match=r"\(MUJOCO_GL=glfw: no screen\). Install one"):
        renderers.choose("x")
    answers["osmesa"] = "no library"
    monkeypatch.delenv(renderers.VARIABLE)
    with pytest.raises(ConfigError) as raised:
        envs.make(SOURCE, "cheetah_run")
    for word in (f"{SOURCE}/cheetah_run", "egl: no display; ", "osmesa: no library", "libosmesa6"):
        assert word in str(raised.value)


def test_a_renderer_is_tried_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is the library's own word, and nothing here is changed."""
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")  # dm_control leaves it where it was imported
    before = dict(os.environ)
    assert "must be one of" in str(renderers.complaint("nonsense"))
    assert "PYOPENGL_PLATFORM" not in renderers.variables("osmesa")
    assert dict(os.environ) == before


def test_presets_are_those_of_the_public_code() -> None:
    """84×84 rgb, three pictures, actions for two frames; quadrupeds through camera 2, all others 0."""
    folder = CONF / "env" / SOURCE
    shared = yaml.safe_load((folder / "suite.yaml").read_text())
    tasks = [path for path in folder.glob("*.yaml") if path.stem != "suite"]
    assert {path.stem for path in tasks} <= {path.stem for path in (CONF / "env/dm_control").glob("*")}
    for path in tasks:
        own = yaml.safe_load(path.read_text())
        own.pop("defaults")
        config = run_config({"agent": {"name": "drq"}, "env": shared | own})
        assert config.env == DmControlPixelsConfig(
            SOURCE, path.stem, action_repeat=2, camera=2 if path.stem.startswith("quadruped") else 0
        )


def settings(**changes: Any) -> DmControlPixelsConfig:
    """Small pictures of the cart-pole."""
    small: dict[str, Any] = {
        "task": "cartpole_swingup",
        "size": 24,
        "colour": "grey",
        "frames": 2,
        "action_repeat": 20,
    }
    return DmControlPixelsConfig(source=SOURCE, **(small | changes))


@drawn
@pytest.mark.parametrize("task", [("quadruped", "run", "2"), ("cartpole", "swingup", "0")])
def test_pictures_are_the_librarys_own(task: tuple[str, str, str]) -> None:
    program = Path(__file__).parents[1] / "cameras.py"
    variables = renderers.variables(renderers.choose("the suite"))
    told = subprocess.run(
        [sys.executable, str(program), *task], env=variables, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


@drawn
def test_what_is_seen_follows_from_the_seed_and_the_actions() -> None:
    """In two processes, across the end of an episode; it is of bytes, and ends with the last picture."""
    config = settings(action_repeat=100, frames=3)
    env = envs.make(SOURCE, config.task, **config.options)
    assert env.picture is not None
    assert (env.picture, env.frames, env.observation_dtype) == ((24, 24, 3), 3, np.uint8)
    actors, everyone = env.open(config, 3, 2), np.ones(3, bool)
    seen = actors.seed(np.array([1, 2, 1]), everyone)
    first = seen.reshape(3, *env.picture)
    assert (first == first[..., :1]).all()  # one picture, three times
    rng, newest = np.random.default_rng(0), set[bytes]()
    for t in range(10):
        before, action = seen, rng.uniform(-1, 1, 1)
        actors.send(np.broadcast_to(action, (3, 1)))
        step = actors.receive()
        seen = step.observation
        assert seen.dtype == np.uint8
        assert seen.shape == (3, 24 * 24 * 3)
        np.testing.assert_array_equal(seen[0], seen[2])
        assert (seen[0] != seen[1]).any()
        new, old = (x.reshape(3, *env.picture) for x in (step.final_observation, before))
        np.testing.assert_array_equal(new[..., :2], old[..., 1:])
        newest.add(new[0, ..., 2].tobytes())
        assert step.truncated.all() == (t == 9)
    assert (seen != step.final_observation).any()  # the next episode's first
    assert len(newest) > 5


@drawn
def test_a_camera_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"env.camera=9 is none of cheetah_run.*0 \(side\), 1 \(back\)"):
        envs.make(SOURCE, "cheetah_run", **settings(camera=9).options)
    sac = run_config({"agent": {"name": "sac"}, "env": vars(settings())})
    with pytest.raises(ConfigError, match="choose one of drq"):
        prepare_pack([sac])


def drq_config(make_config: MakeConfig, **changes: Any) -> RunConfig:
    """A tenth of the weights on small pictures: 240 interactions, 50 of which make an episode."""
    budget = {"env_steps": 4800, "log_every": 1200, "eval_every": 4800}
    env = vars(settings(eval_episodes=1))
    return make_config(agent={"name": "drq"}, env=env, sparsity=0.9, width=32, **budget, **changes)


@drawn
def test_drq_that_is_interrupted_and_killed_ends_with_the_bytes_of_an_undisturbed_run(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an episode; pictures are drawn again from what was done. Then it is filmed."""
    config = drq_config(make_config, pruning={"storage": "masked"})
    both, _ = interrupt_and_kill(config, tmp_path, monkeypatch, until=2400)
    rows = results.read_metrics(both[0])
    assert list(rows["updates"]) == [40, 100, 160, 220]  # 20 of 240 interactions random
    assert np.isfinite(rows["loss/critic"]).all()

    path, score = film(both[0], seed=3)
    assert score > 0.0
    with Image.open(path) as image:
        assert image.size == (192, 192)
        assert getattr(image, "n_frames", 1) > 1


@drawn
def test_the_plan_counts_each_picture_once_in_bytes(make_config: MakeConfig) -> None:
    (run,) = prepare_pack([drq_config(make_config)]).runs
    assert run.costs.replay_bytes == (240 + 4) * (24 * 24 + 4 + 4 + 2) + 8  # four episodes end
    assert run.costs.parameters_nonzero < 0.5 * run.costs.parameters_total


def test_the_replay_holds_what_environments_of_the_host_showed(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of two interactions: the first picture is bright on the side of the sign, two are dark,
    the reward is −(a − sign/2)² for the second action. Each picture has one row."""
    monkeypatch.setitem(registry.SOURCES, "probe", on_host(probe.make))
    budget = {"env_steps": 60, "log_every": 30, "eval_every": 30}  # 30 interactions, room for 60
    loop, (run,) = prepare_pack([make_config(agent={"name": "drq"}, **budget)])
    assert isinstance(loop, HostOffPolicyLoop)
    seen: list[np.ndarray] = []

    def act(agent: Any, normaliser: Any, key: Any, t: Any, observation: Any) -> Any:
        seen.append(np.asarray(observation))
        return normaliser, np.full((1, 1), 0.01 * t, np.float32)

    def learn(agent: Any, totals: Any, *_: Any) -> Any:
        return agent, totals

    learner = jax.eval_shape(loop.init, run.inputs).learner  # of which only the buffer is used
    nothing = jax.tree.map(np.asarray, loop.learning.nothing_learned(learner))
    learner = learner._replace(replay=loop.learning.buffer.init(60))
    start = hosting.begin(loop.config, loop.env, learner, run.inputs.seed)
    programs = Compiled(act, learn, jax.jit(loop.learning.buffer.add), lambda *_: {}, None, nothing)
    state, _ = Driver(loop.learning, loop.env, programs).chunk(0, start)
    rows = jax.device_get(state.learner.replay.rows)
    pictures = rows.picture[0].reshape(-1, 16, 16)
    assert int(state.learner.replay.size[0]) == 45
    for t in range(0, 30, 2):
        first = t // 2 * 3  # row of the episode's first picture
        bright = pictures[first].mean(axis=0)
        sign = 1 if bright[15] else -1
        np.testing.assert_array_equal(bright[::sign][:8], 0)
        np.testing.assert_array_equal(bright[::sign][8:], 255)
        assert not pictures[first + 1 : first + 3].any()
        np.testing.assert_allclose(rows.action[0, first : first + 2, 0], [0.01 * t, 0.01 * (t + 1)])
        reward = -((0.01 * (t + 1) - 0.5 * sign) ** 2)
        np.testing.assert_allclose(rows.reward[0, first : first + 2], [0, reward], rtol=1e-5)
        assert rows.last[0, first : first + 3].tolist() == [False, False, True]
        assert rows.terminated[0, first + 2]
        # what the actor saw: the first picture twice, then the first and the second
        stacks = [np.stack([pictures[first], pictures[first + i]], axis=-1).ravel() for i in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(seen[t : t + 2]), stacks)
