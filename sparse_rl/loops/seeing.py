"""Views as networks see them: numbers normalised, names as they are."""

import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import View
from sparse_rl.experience import normaliser as norm


def _apart(seen: Array, names: int) -> tuple[Array, Array | None]:
    """Numbers, and the names that follow them; ``None``: there are none."""
    return (seen[..., :-names], seen[..., -names:]) if names else (seen, None)


def _normalised(statistics: norm.Normaliser, seen: Array, names: int) -> Array:
    """What was seen, normalised but for names, ``[n, …]``."""
    numbers, named = _apart(seen, names)
    numbers = norm.bounded(norm.normalise(statistics, numbers))
    return numbers if named is None else jnp.concatenate([numbers, named], axis=-1)


def normalised(normaliser: norm.Normaliser, view: View, names: int) -> View:
    """A view whose numbers are normalised.

    Args:
        normaliser: of what agents see, then of what a central critic sees, both without names.
        view: as the environment gave it.
        names: as of :class:`~sparse_rl.envs.Spec`.
    """
    own = view.observation.shape[-1] - names
    seen = _normalised(norm.part(normaliser, 0, own), view.observation, names)
    if view.critic_observation is None:
        return view._replace(observation=seen)
    last = own + view.critic_observation.shape[-1] - names
    central = _normalised(norm.part(normaliser, own, last), view.critic_observation, names)
    return view._replace(observation=seen, critic_observation=central)


def counted(view: View, names: int) -> Array:
    """What the normaliser takes in of a view: the numbers of all that is seen, ``[n, …]``."""
    parts = [view.observation, view.critic_observation]
    numbers = [_apart(part, names)[0] for part in parts if part is not None]
    return numbers[0] if len(numbers) == 1 else jnp.concatenate(numbers, axis=-1)
