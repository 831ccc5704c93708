"""Simulators on scripted libraries, and the processes that step them: ranges of actions, kinds of ends,
what is seeded, and how environments are divided among workers."""

import io
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparse_rl.envs import workers
from sparse_rl.settings.envs import EnvConfig
from sparse_rl.simulators import Frame, Simulator, dm_control, gymnasium, plant_worker, plants, worker
from sparse_rl.simulators.actions import from_unit
from sparse_rl.simulators.dm_control_pixels import Rendered, grey
from sparse_rl.simulators.plant_worker import Job


class Suite:
    """A task of dm_control in one: two parts of an observation, forces in [0, 4] and [−1, 1.1]."""

    def __init__(self, ends: dict[int, float]) -> None:
        self.ends, self.time, self.given = ends, 0, np.zeros(2)
        self.physics = SimpleNamespace(model=None)
        self.task = SimpleNamespace(random=SimpleNamespace(seed=lambda seed: None))

    def load(self, domain: str, task: str, task_kwargs: Any) -> "Suite":
        return self

    def action_spec(self) -> Any:
        return SimpleNamespace(shape=(2,), minimum=np.array([0.0, -1.0]), maximum=np.array([4.0, 1.1]))

    def observation_spec(self) -> Any:
        return {"position": np.zeros(2), "height": np.zeros(())}

    def _seen(self, last: bool, discount: float) -> Any:
        parts = {"position": np.array([self.time, 2.5 * self.time]), "height": np.array(-0.3)}
        return SimpleNamespace(
            observation=parts, reward=7.5 * self.time, discount=discount, last=lambda: last
        )

    def reset(self) -> Any:
        self.time = 0
        return self._seen(False, 1.0)

    def step(self, action: np.ndarray) -> Any:
        self.time, self.given = self.time + 1, np.asarray(action)
        return self._seen(self.time in self.ends, self.ends.get(self.time, 1.0))


def test_a_task_of_the_suite_is_given_forces_in_its_range_and_ends_in_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A last step whose discount is 0 is a termination; any other, and the limit, are truncations."""
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    monkeypatch.setattr(dm_control, "EPISODE_LENGTH", 5)
    for ends, kind in (({3: 0.0}, (True, False)), ({3: 1.0}, (False, True)), ({}, (False, True))):
        suite = Suite(ends)
        monkeypatch.setattr(dm_control, "_suite", lambda suite=suite: suite)
        task = dm_control.Task("a", "b")
        assert (task.observation_size, task.action_size) == (3, 2)
        for _ in range(2):
            np.testing.assert_allclose(task.reset(), [0.0, 0.0, -0.3])
            frames = [task.frame(np.array([-0.5, 1.0])) for _ in range(3 if ends else 5)]
            np.testing.assert_allclose(suite.given, [1.0, 1.1])
            assert [frame.reward for frame in frames[:2]] == [7.5, 15.0]
            assert all(frame[1:] == (False, False) for frame in frames[:-1])
            assert frames[-1][1:] == kind
            np.testing.assert_allclose(task.observe(), [len(frames), 2.5 * len(frames), -0.3])
    suite = Suite({5: 0.0})  # by itself, when time is up too
    monkeypatch.setattr(dm_control, "_suite", lambda: suite)
    task = dm_control.Task("a", "b")
    task.reset()
    assert [task.frame(np.zeros(2)) for _ in range(5)][-1][1:] == (True, False)


class Gym:
    """A task of Gymnasium: forces in [−3, 1]; its third step ends it in both ways at once."""

    def __init__(self) -> None:
        self.action_space = SimpleNamespace(
            low=np.array([-3.0]), high=np.array([1.0]), dtype=np.float32, shape=(1,)
        )
        self.observation_space = SimpleNamespace(shape=(2,))
        self.spec = SimpleNamespace(max_episode_steps=9)
        self.data = SimpleNamespace(warning=SimpleNamespace(number=np.zeros(20, int)))
        self.unwrapped, self.given, self.time = self, np.zeros(1), 0
        self.seeds: list[int | None] = []
        self.ends = (True, True)

    def reset(self, seed: int | None) -> Any:
        self.seeds.append(seed)
        self.time = 0
        return np.array([0.25, -4.0]), {}

    def step(self, action: np.ndarray) -> Any:
        self.time, self.given = self.time + 1, action
        ended = self.ends if self.time == 3 else (False, False)
        return np.array([self.time, 6.5]), 2.5 * self.time, *ended, {}


def test_a_task_of_gymnasium_is_given_forces_in_its_range_and_ends_in_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A seed counts once: what follows it is drawn from the same stream."""
    pytest.importorskip("mujoco", reason="needs the extra gym")
    library = pytest.importorskip("gymnasium", reason="needs the extra gym")
    made = Gym()
    monkeypatch.setattr(library, "make", lambda name: made)
    task = gymnasium.make("hopper")
    assert (task.observation_size, task.action_size, task.episode_length) == (2, 1, 9)
    for ends, kind in (((True, True), (True, False)), ((False, True), (False, True))):
        made.ends = ends
        task.seed(11)
        for _ in range(3):
            np.testing.assert_allclose(task.reset(), [0.25, -4.0])
        frames = [task.frame(np.array([0.5], np.float32)) for _ in range(3)]
        np.testing.assert_allclose(made.given, [0.0])
        assert frames[:2] == [Frame(2.5, False, False), Frame(5.0, False, False)]
        assert frames[-1] == Frame(7.5, *kind)
        np.testing.assert_allclose(task.observe(), [3.0, 6.5])
    assert made.seeds == [11, None, None] * 2


def test_actions_are_put_into_ranges_that_are_not_symmetric() -> None:
    to_task = from_unit(np.array([-1.0, 0.0, 2.0]), np.array([1.1, 4.0, 3.0]))
    np.testing.assert_allclose(to_task(np.array([-0.5, 0.5, 5.0])), [-0.475, 3.0, 3.0])


class Wave(Simulator):
    """Rewards −3, −6, … or always the same; truncated after its second frame."""

    observation_size, action_size, episode_length = 2, 1, 2

    def __init__(self, reward: float | None = None) -> None:
        self.time, self.resets, self.reward = 0, 0, reward
        self.seeds: list[int] = []

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def reset(self) -> np.ndarray:
        self.time, self.resets = 0, self.resets + 1
        return self.observe()

    def frame(self, action: np.ndarray) -> Frame:
        self.time += 1
        reward = -3.0 * self.time if self.reward is None else self.reward
        return Frame(reward, False, self.time == 2)

    def observe(self) -> np.ndarray:
        return np.array([self.time, 10.0 * self.resets], np.float32)


def test_nothing_is_simulated_after_time_ran_out() -> None:
    """Five frames of an action, of which the episode has two: what follows is the next one's start."""
    now, simulator = np.zeros(1, worker.row(2, np.float32, 1))[0], Wave()
    now["seed"], now["to_seed"] = 77, True
    worker.begin(simulator, now)
    now["to_seed"] = False
    worker.begin(simulator, now)
    assert simulator.seeds == [77]
    worker.act(simulator, now, 5)
    assert (now["reward"], now["terminated"], now["truncated"]) == (-9.0, False, True)
    np.testing.assert_array_equal(now["final_observation"], [2.0, 10.0])
    np.testing.assert_array_equal(now["observation"], [0.0, 20.0])


def test_a_reward_far_below_zero_breaks_a_simulation_too() -> None:
    """The bound is 1e10 on either side."""
    for reward, broken in ((-9e9, False), (9e9, False), (-1.1e10, True), (1.1e10, True)):
        now = np.zeros(1, worker.row(2, np.float32, 1))[0]
        worker.act(Wave(reward), now, 1)
        assert bool(now["terminated"]) == broken
        assert float(now["reward"]) == (0.0 if broken else pytest.approx(reward))


def test_environments_are_divided_among_workers_that_know_the_action_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven in three processes: 0–2, 2–4 and 4–7; of five at most as many as there are environments."""
    commands: list[list[str]] = []

    def start(command: list[str], fd: int, variables: Any) -> Any:
        commands.append(command)
        read, write = os.pipe()
        os.write(write, worker.DONE * 9)
        os.close(write)
        return SimpleNamespace(
            stdout=os.fdopen(read, "rb"), stdin=io.BytesIO(), wait=lambda *_: 0, kill=lambda: None
        )

    monkeypatch.setattr(workers, "_start", start)
    env: Any = SimpleNamespace(observation_size=2, observation_dtype=np.float32, action_size=1)
    settings = EnvConfig("dm_control", "walker_walk", action_repeat=3)
    made = workers.Workers(env, settings, 7, 3, {})
    told = [[int(x) for x in command[6:10]] for command in commands]
    assert [command[3:5] for command in commands] == [["dm_control", "walker_walk"]] * 3
    assert told == [[3, 7, 0, 2], [3, 7, 2, 4], [3, 7, 4, 7]]
    commands.clear()
    assert len(workers.Workers(env, settings, 2, 5, {})._processes) == 2
    monkeypatch.setattr(made, "_tell", lambda command: None)
    where = np.array([True, False, True, False, False, False, True])
    made.seed(np.arange(7) + 20, where)
    np.testing.assert_array_equal(made._rows["to_seed"], where)
    np.testing.assert_array_equal(made._rows["seed"], np.arange(7) + 20)


def test_grey_is_what_the_eye_sees_of_red_green_and_blue() -> None:
    """0.299, 0.587 and 0.114 of 255: 76, 149 and 28 after rounding down."""
    picture = np.zeros((1, 3, 3), np.uint8)
    picture[0, 0, 0] = picture[0, 1, 1] = picture[0, 2, 2] = 255
    np.testing.assert_array_equal(grey(picture)[0, :, 0], [76, 149, 28])


def test_a_rendered_task_stacks_its_last_pictures() -> None:
    """Of one channel, three of them, the newest last; at first the first one over and over."""
    task: Any = Rendered.__new__(Rendered)
    drawn = iter(np.full((1, 2, 1), i, np.uint8) for i in (5, 6, 7, 8, 9))
    task._task = SimpleNamespace(reset=lambda: None, broken=False)
    task.frames, task._draw = 3, lambda: next(drawn)
    np.testing.assert_array_equal(task.reset(), [5, 5, 5] * 2)
    for expected in ([5, 5, 6], [5, 6, 7], [6, 7, 8]):
        np.testing.assert_array_equal(task.observe(), expected * 2)


def job(**changes: Any) -> Job:
    plant, mask = plants.chain(2), np.array([[1, 0, 1, 1], [0, 1, 0, 1]], bool)
    given = Job(*plant, mask, 1e-3, True, "latency", "constant", 0.03, [4])
    return given._replace(**changes)


@pytest.mark.parametrize(
    ("kind", "deviation"), [("constant", 0.0), ("exponential", 1.0), ("lognormal", np.sqrt(np.e - 1))]
)
def test_estimates_take_as_long_as_is_said_on_average(kind: str, deviation: float) -> None:
    """0.03 s, with the deviations of these distributions."""
    rng, n = np.random.default_rng(3), 20_000
    took = np.array([plant_worker.duration(job(durations=kind), rng) for _ in range(n)]) / 0.03
    assert took.mean() == pytest.approx(1.0, abs=5 * deviation / np.sqrt(n) + 1e-9)
    assert took.std() == pytest.approx(deviation, rel=0.1, abs=1e-9)


@pytest.mark.parametrize("two_point", [True, False])
def test_an_estimate_by_hand(two_point: bool) -> None:
    """d/(2r) · (J(K + rU) − J(K − rU)) · U, or d/r · J(K + rU) · U; five entries are free."""
    given, gain = job(two_point=two_point, radius=0.02), np.full((2, 4), 0.1)
    found = plant_worker.estimate(given, gain, np.random.default_rng(9)).reshape(2, 4)
    rng = np.random.default_rng(9)
    u = rng.standard_normal((2, 4)) * given.mask
    u, x0 = u / np.sqrt((u**2).sum()), rng.standard_normal(4)
    up, down = (
        x0 @ plants.cost_matrix(plants.chain(2), gain + sign * 0.02 * u) @ x0 for sign in (1, -1)
    )
    slope = (up - down) / 0.04 if two_point else up / 0.02
    np.testing.assert_allclose(found, 5 * slope * u, rtol=1e-8)


def test_a_gain_that_turns_outwards_is_not_stabilising() -> None:
    """In steps: poles 0.8 ± 0.7i are beyond the circle, though their real part is not; 0.6 ± 0.7i are
    within. In continuous time −0.1 ± 3i settle."""
    for real, inside in ((0.8, False), (0.6, True)):
        turning = np.array([[real, 0.7], [-0.7, real]])
        plant = plants.Plant(turning, np.zeros((2, 1)), 0.1)
        assert plants.is_stabilising(plant, np.zeros((1, 2))) == inside
    plant = plants.Plant(np.array([[-0.1, 3.0], [-3.0, -0.1]]), np.zeros((2, 1)), None)
    assert plants.is_stabilising(plant, np.zeros((1, 2)))
