"""Pictures by distance functions, in pure jnp.

A pixel's share of a shape follows from how far its centre is from the shape's edge: edges are smooth,
and movements of less than a pixel show (Quilez, "2D distance functions").
"""

import jax.numpy as jnp
from jax import Array

Point = tuple[Array, Array]
"""x and y, metres."""


class Canvas:
    """A square picture of the plane, its centre at (0, 0), x to the right and y up.

    Args:
        size: pixels of a side.
        half: metres from the centre to an edge.
        background: shares of full brightness, one per channel.
    """

    def __init__(self, size: int, half: float, background: tuple[float, ...]) -> None:
        self._pixel = 2.0 * half / size
        places = (jnp.arange(size) + 0.5) * self._pixel - half
        self._x, self._y = places[None, :], -places[:, None]
        self._picture = jnp.broadcast_to(jnp.array(background), (size, size, len(background)))

    def _paint(self, distance: Array, colour: tuple[float, ...]) -> None:
        covered = jnp.clip(0.5 - distance / self._pixel, 0.0, 1.0)[..., None]
        self._picture = self._picture + covered * (jnp.array(colour) - self._picture)

    def box(self, x: Array, y: Array, half: tuple[float, float], colour: tuple[float, ...]) -> None:
        """Paint an upright rectangle around (x, y)."""
        across, along = jnp.abs(self._x - x) - half[0], jnp.abs(self._y - y) - half[1]
        outside = jnp.hypot(jnp.maximum(across, 0.0), jnp.maximum(along, 0.0))
        self._paint(outside + jnp.minimum(jnp.maximum(across, along), 0.0), colour)

    def rod(self, start: Point, end: Point, radius: float, colour: tuple[float, ...]) -> None:
        """Paint a line with round ends."""
        across, along = end[0] - start[0], end[1] - start[1]
        x, y = self._x - start[0], self._y - start[1]
        share = jnp.clip((x * across + y * along) / (across**2 + along**2), 0.0, 1.0)
        self._paint(jnp.hypot(x - share * across, y - share * along) - radius, colour)

    def picture(self) -> Array:
        """uint8 ``[size, size, channels]``."""
        return jnp.round(255.0 * self._picture).astype(jnp.uint8)
