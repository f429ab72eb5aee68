"""MixUp and CutMix on the device."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxmed.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """MixUp, CutMix or both, of pairs of images of a batch.

    One share lambda a batch, from Beta(alpha, alpha). Hashable, so that it can be a
    static argument of a jitted step; false where nothing is mixed.

    Attributes:
        mixup: alpha of MixUp, a weighted mean of two images (Zhang et al., ICLR 2018,
            equation 1); 0 for none.
        cutmix: alpha of CutMix, a box of the one pasted into the other (Yun et al.,
            ICCV 2019, equations 1 and 2); 0 for none. With both, each batch takes
            one of them, with probability one half.

    Raises:
        InputError: an alpha below 0 or not finite.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            if not 0 <= alpha < math.inf:
                raise InputError(f"{name} must be at least 0, got {alpha}.")

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def mix(
        self, images: jax.Array, mask: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mixes every image with the next one of the batch, the last with the first.

        Args:
            images: float32 (n, h, w, c).
            mask: (n,), 1 for images and 0 for padding, which is left out.
            key: decides lambda and the box.

        Returns:
            The mixed images, float32 (n, h, w, c); of each the index of its partner,
            int32 (n,); and lambda, the share of the image itself, float32 (). The
            loss to minimize is lambda times that of the labels plus 1 - lambda times
            that of `labels[partner]`; so, of a label that one of the two does not know,
            only the other's part is there.
        """
        partner = next_images(mask)
        keep, share = self._choose(images.shape[1], images.shape[2], key)
        return keep * images + (1 - keep) * images[partner], partner, share

    def _choose(
        self, height: int, width: int, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Draws what is kept of each pixel, (h, w, 1), and its mean, lambda."""
        choice_key, *keys = jax.random.split(key, 3)
        shape = (height, width, 1)
        drawn = []
        if self.mixup:
            share = jax.random.beta(keys[0], self.mixup, self.mixup)
            drawn.append((jnp.broadcast_to(share, shape), share))
        if self.cutmix:
            drawn.append(self._draw_box(height, width, keys[1]))
        if not drawn:
            return jnp.ones(shape), jnp.ones(())
        if len(drawn) == 1:
            return drawn[0]
        first = jax.random.bernoulli(choice_key)
        return jax.tree.map(lambda mixed, cut: jnp.where(first, mixed, cut), *drawn)

    def _draw_box(
        self, height: int, width: int, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 3)
        share = jax.random.beta(keys[0], self.cutmix, self.cutmix)
        row = jax.random.randint(keys[1], (), 0, height)
        column = jax.random.randint(keys[2], (), 0, width)
        inside = box(share, row, column, height, width)
        # Of a box that was clipped at the border less is pasted than was drawn.
        return 1.0 - inside, 1 - inside.sum() / (height * width)


NO_MIXING = Mixing()


def box(
    share: jax.Array, row: jax.Array, column: jax.Array, height: int, width: int
) -> jax.Array:
    """Marks the pixels that CutMix replaces, clipped at the image's border.

    Args:
        share: lambda, float32 (); the box has 1 - lambda of the image's area.
        row, column: int (), its center.
        height, width: of the image.

    Returns:
        float32 (h, w, 1), 1 inside and 0 outside.
    """

    def marks(center, size):
        half = (0.5 * jnp.sqrt(1 - share) * size).astype(jnp.int32)
        pixels = jnp.arange(size)
        return (pixels >= center - half) & (pixels < center + half)

    inside = marks(row, height)[:, None] & marks(column, width)
    return inside[..., None].astype(jnp.float32)


def next_images(mask: jax.Array) -> jax.Array:
    """Returns the index of the next image that is not padding, of the last the first.

    Args:
        mask: (n,), 1 for images and 0 for padding, whose next is itself.

    Returns:
        int32 (n,).
    """
    indices = jnp.arange(len(mask), dtype=jnp.int32)
    order = jnp.argsort(mask == 0, stable=True)
    following = jnp.where(indices + 1 < (mask != 0).sum(), indices + 1, 0)
    partner = jnp.zeros_like(indices).at[order].set(order[following].astype(jnp.int32))
    return jnp.where(mask != 0, partner, indices)
