"""A task of the suite beside the library's own pictures of it, as a program: which renderer is used is
settled when dm_control is imported, and the tests' process imports it without one."""

import sys
from typing import Any

import numpy as np

from sparse_rl import simulators
from sparse_rl.simulators import Simulator
from sparse_rl.simulators.actions import from_unit

REPEAT, FRAMES, SIDE = 2, 3, 84


def seen_by(simulators: list[Simulator], action: np.ndarray | None) -> list[np.ndarray]:
    """What each sees after an interaction, or at first: ``[side, side, channels, frames]``."""
    observations = []
    for simulator in simulators:
        if action is None:
            simulator.seed(5)
            observation = simulator.reset()
        else:
            for _ in range(REPEAT):
                simulator.frame(action)
            observation = simulator.observe()
        in_time = observation.reshape(SIDE, SIDE, FRAMES, -1).swapaxes(2, 3)
        observations.append(in_time)
    return observations


def check_broken(simulator: Any) -> None:
    """What can no longer be drawn is seen as it was, until the next episode."""
    before = simulator.observe().copy()
    simulator._task.physics.data.qpos[:] = np.nan
    frame = simulator.frame(np.zeros(simulator.action_size))
    assert (frame.reward, frame.terminated, frame.truncated) == (0.0, True, False)
    np.testing.assert_array_equal(simulator.observe(), before)
    assert (simulator.reset() != before).any()


def check(domain: str, task: str, camera: int) -> None:
    """Full quality in rgb is what the library draws, once per interaction; grey is made of it."""
    from dm_control import suite

    def make(**options: Any) -> Simulator:
        name = f"{domain}_{task}"
        return simulators.make(
            "dm_control_pixels", name, size=SIDE, frames=FRAMES, camera=camera, **options
        )

    ours = make(colour="rgb", quality="full")
    all_ = [ours, make(colour="grey", quality="full"), make(colour="rgb", quality="fast")]
    theirs = suite.load(domain, task, task_kwargs={"random": 5})
    spec = theirs.action_spec()
    scaled = from_unit(spec.minimum, spec.maximum)
    rng, history = np.random.default_rng(0), []
    theirs.reset()
    for t in range(5):
        action = rng.uniform(-1, 1, ours.action_size).astype(np.float32) if t else None
        if action is not None:
            for _ in range(REPEAT):
                theirs.step(scaled(action))
        history.append(theirs.physics.render(SIDE, SIDE, camera_id=camera))
        past = np.stack([history[max(i, 0)] for i in range(t - FRAMES + 1, t + 1)], axis=-1)
        rgb, grey, fast = seen_by(all_, action)
        np.testing.assert_array_equal(rgb, past)
        luma = np.einsum("hwcf,c->hwf", past, (0.299, 0.587, 0.114))
        np.testing.assert_allclose(grey[:, :, 0], luma, atol=1.5)
        assert (fast != rgb).any()  # without shadows and reflections,
        assert np.abs(fast.astype(float) - rgb).mean() < 10  # and yet of the same thing
    assert (history[0] != history[1]).any()
    check_broken(ours)


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2], int(sys.argv[3]))
