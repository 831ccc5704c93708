"""Which of MuJoCo's offscreen renderers works on this machine.

A process cannot take back the import of one that does not: each is tried in a process of its own.
"""

import functools
import importlib.util
import os
import subprocess
import sys

from sparse_rl.settings.schema import ConfigError
from sparse_rl.simulators.dm_control import MISSING

VARIABLE = "MUJOCO_GL"
RENDERERS = ("glfw",) if sys.platform == "darwin" else ("egl", "osmesa")
"""Tried in this order."""
PATIENCE_SECONDS = 120.0
INSTALL = (
    "Install one (Debian, Ubuntu: apt-get install libegl1 libgl1, or libosmesa6; NVIDIA's driver has "
    f"EGL), and leave {VARIABLE} unset or set it to that"
)
DRAW = """
from dm_control import mujoco
ball = "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"
if not mujoco.Physics.from_xml_string(ball).render(8, 8).any():
    raise SystemExit("what it draws is black")
"""


def variables(renderer: str) -> dict[str, str]:
    """The environment variables of a process that draws with this renderer."""
    # PyOpenGL's follows from it, and may be there because dm_control was imported in this process.
    kept = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    return kept | {VARIABLE: renderer}


@functools.cache
def complaint(renderer: str) -> str | None:
    """Have a renderer draw a ball: ``None`` if it can, else the last thing that it said."""
    command = [sys.executable, "-c", DRAW]
    try:
        tried = subprocess.run(
            command,
            env=variables(renderer),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {PATIENCE_SECONDS:g} s"
    if tried.returncode == 0:
        return None
    lines = [line for line in tried.stderr.splitlines() if line.strip()]
    return lines[-1].strip(" .") if lines else f"its process ended with {tried.returncode}"


def choose(env: str) -> str:
    """What ``MUJOCO_GL`` says, or else the first of :data:`RENDERERS` that draws.

    Args:
        env: whose pictures are to be drawn, for messages.

    Raises:
        ConfigError: none works; the message says what each said, and what to install.
        ModuleNotFoundError: the extra ``dmc`` is not installed.
    """
    if importlib.util.find_spec("dm_control") is None:
        raise ModuleNotFoundError(MISSING.format(env))
    given = os.environ.get(VARIABLE)
    tried = {}
    for renderer in (given,) if given else RENDERERS:
        said = complaint(renderer)
        if said is None:
            return renderer
        tried[renderer] = said
    answers = "; ".join(f"{VARIABLE}={renderer}: {said}" for renderer, said in tried.items())
    raise ConfigError(f"env={env} is drawn by MuJoCo, and no renderer works here ({answers}). {INSTALL}")
