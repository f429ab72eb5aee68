"""Vision transformers, as in torchvision, timm, DINOv2 and Hugging Face's transformers.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Oquab et al., "DINOv2",
TMLR 2024; Darcet et al., "Vision Transformers Need Registers", ICLR 2024. An image is
cut into patches, each a token; blocks of attention and a perceptron follow, and what
the class token is at the end is what the head sees. Module names are timm's.
"""

import math
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.layers.initializers import normal

# "own" is the class token. The last two are the inputs of DINOv2's linear classifiers:
# class token and mean of the patches; class tokens of the last 4 blocks and that mean.
POOLS = ("own", "average", "class_and_average", "last_4_and_average")
LAST = 4


class Interpolation(NamedTuple):
    """Bicubic interpolation of position embeddings, as a source of weights does it.

    Attributes:
        align_corners: whether the corners' centers stay where they are.
        antialias: whether the kernel widens where the grid shrinks.
        offset: added to the new grid's size when the scale is computed.
    """

    align_corners: bool = False
    antialias: bool = False
    offset: float = 0.0


TORCHVISION = Interpolation(align_corners=True)  # `interpolate_embeddings`
TIMM = Interpolation(antialias=True)  # `resample_abs_pos_embed`, DINOv2 with registers
DINOV2 = Interpolation(offset=0.1)  # `interpolate_pos_encoding` without registers
HUGGING_FACE = Interpolation()  # `Dinov2Embeddings`


@lru_cache(maxsize=64)
def interpolation_matrix(old: int, new: int, how: Interpolation) -> np.ndarray:
    """Return the matrix (new, old) that resizes an axis as torch's `interpolate`.

    Keys' cubic kernel with a of -0.75, or -0.5 where torch widens it against aliasing.
    """
    if how.align_corners:
        step = (old - 1) / max(new - 1, 1)
        centers = np.arange(new) * step
    else:
        step = old / (new + how.offset)
        centers = (np.arange(new) + 0.5) * step - 0.5
    width = max(step, 1.0) if how.antialias else 1.0
    pixels = np.arange(math.floor(-2 * width), old + math.ceil(2 * width))
    far = np.abs(pixels - centers[:, None]) / width
    a = -0.5 if how.antialias else -0.75
    near = ((a + 2) * far - (a + 3)) * far**2 + 1
    beyond = a * (((far - 5) * far + 8) * far - 4)
    weights = np.where(far < 1, near, np.where(far < 2, beyond, 0))
    matrix = np.zeros((new, old))
    if how.antialias:
        # What is outside is left out, and the rest has more weight.
        matrix = weights[:, (pixels >= 0) & (pixels < old)]
        matrix /= matrix.sum(axis=1, keepdims=True)
    else:
        # What is outside is as the edge.
        for pixel, column in zip(pixels.clip(0, old - 1), weights.T, strict=True):
            matrix[:, pixel] += column
    return matrix.astype(np.float32)


def resize_positions(
    positions: Any, old: int, new: tuple[int, int], how: Interpolation
) -> Any:
    """Resize the position embeddings of a square grid.

    Args:
        positions: (1, tokens, c), jax or NumPy: what is before the grid stays.
        old: side of its grid.
        new: height and width of the new grid.
        how: the interpolation.

    Returns:
        (1, tokens', c).
    """
    if new == (old, old):
        return positions
    xp: Any = jnp if isinstance(positions, jax.Array) else np
    before = positions.shape[1] - old**2
    down, across = (interpolation_matrix(old, side, how) for side in new)
    grid = positions[0, before:].reshape(old, old, -1)
    precise = {"precision": "highest"} if xp is jnp else {}
    grid = xp.einsum("ig,jh,ghc->ijc", down, across, grid, **precise)
    resized = grid.astype(positions.dtype).reshape(1, new[0] * new[1], -1)
    return xp.concatenate([positions[:, :before], resized], axis=1)


def _initial(key, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
    del out_sharding
    # timm cuts this off at ±2, a hundred standard deviations away.
    return normal(key, shape, 0.02).astype(dtype)


def _linear(in_features: int, out_features: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(in_features, out_features, kernel_init=_initial, rngs=rngs)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x²] - E[x]², loses digits that torch keeps.
    return nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention; queries, keys and values are one projection.

    Attributes:
        precision: of the products beside the two layers; see `set_precision`.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.qkv = _linear(width, 3 * width, rngs)
        self.proj = _linear(width, width, rngs)
        self.heads = heads
        self.precision: Any = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens (n, t, c) to tokens of that shape; the softmax is in float32."""
        queries, keys, values = self._project(x)
        # Products of float32 numbers are to be that on GPUs and TPUs too.
        exact = jax.default_matmul_precision("highest")
        with nullcontext() if self.precision is None else exact:
            if x.dtype == jnp.float64:
                # The softmax of JAX's own is in float32, whatever it is given.
                shares = _softmax(queries, keys)
                mixed = jnp.einsum("nhts,nshc->nthc", shares, values)
            else:
                mixed = jax.nn.dot_product_attention(queries, keys, values)
        return self.proj(mixed.reshape(x.shape))

    def shares(self, x: jax.Array) -> jax.Array:
        """Return the share of each token in each: (n, heads, t, t), rows sum to 1."""
        queries, keys, _ = self._project(x)
        return _softmax(queries, keys)

    def _project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        shape = (*x.shape[:2], 3, self.heads, x.shape[2] // self.heads)
        queries, keys, values = jnp.moveaxis(self.qkv(x).reshape(shape), 2, 0)
        return queries, keys, values


def _softmax(queries: jax.Array, keys: jax.Array) -> jax.Array:
    wide = jnp.promote_types(queries.dtype, jnp.float32)
    logits = jnp.einsum(
        "nthc,nshc->nhts", queries, keys, preferred_element_type=wide
    ) / math.sqrt(queries.shape[-1])
    return jax.nn.softmax(logits)


class Perceptron(nnx.Module):
    """Two linear layers per token, with GELU between them, or a SwiGLU.

    Shazeer, "GLU Variants Improve Transformer", 2020, eq. 6: half of the first layer,
    through SiLU, is a gate on the other half.
    """

    def __init__(self, width: int, *, swiglu: bool, rngs: nnx.Rngs):
        first, second = self.features(width, swiglu=swiglu)
        self.fc1 = _linear(width, first, rngs)
        self.fc2 = _linear(second, width, rngs)
        self.swiglu = swiglu

    @staticmethod
    def features(width: int, *, swiglu: bool) -> tuple[int, int]:
        """Return the outputs of the first layer and the inputs of the second."""
        if not swiglu:
            return 4 * width, 4 * width
        # DINOv2's: two thirds, rounded up to a multiple of 8.
        gated = -(-int(4 * width * 2 / 3) // 8) * 8
        return 2 * gated, gated

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.fc1(x)
        if self.swiglu:
            gate, x = jnp.split(x, 2, axis=-1)
            return self.fc2(nnx.silu(gate) * x)
        # torch's GELU is exact; flax's default is the approximation with tanh.
        return self.fc2(nnx.gelu(x, approximate=False))


class LayerScale(nnx.Module):
    """A factor per channel of a branch (Touvron et al., CaiT, ICCV 2021)."""

    def __init__(self, width: int, initial: float):
        self.gamma = nnx.Param(jnp.full(width, initial))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.gamma[...].astype(x.dtype)


class TransformerBlock(nnx.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        layer_scale: float | None,
        swiglu: bool,
        rngs: nnx.Rngs,
    ):
        self.norm1 = _norm(width, rngs)
        self.attn = Attention(width, heads, rngs=rngs)
        self.ls1 = LayerScale(width, layer_scale) if layer_scale else None
        self.norm2 = _norm(width, rngs)
        self.mlp = Perceptron(width, swiglu=swiglu, rngs=rngs)
        self.ls2 = LayerScale(width, layer_scale) if layer_scale else None

    def __call__(self, x: jax.Array) -> jax.Array:
        branch = self.attn(self.norm1(x))
        x = x + (branch if self.ls1 is None else self.ls1(branch))
        branch = self.mlp(self.norm2(x))
        return x + (branch if self.ls2 is None else self.ls2(branch))


class PatchEmbedding(nnx.Module):
    """Patches to tokens, by one linear layer that is written as a convolution."""

    def __init__(self, in_channels: int, width: int, patch: int, *, rngs: nnx.Rngs):
        self.proj = nnx.Conv(
            in_channels,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            kernel_init=_initial,
            rngs=rngs,
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.proj(images)
        return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])


class VisionTransformer(nnx.Module):
    """The part of a vision transformer below its head; a `Backbone`.

    A stage maps tokens (n, t, c) to tokens: class token, registers, patches row by row.
    With the pool "last_4_and_average" the class tokens of the last blocks but one
    follow, for the pool to find.

    Args:
        patch: pixels of a side of a patch.
        width: channels of a token.
        depth: blocks.
        heads: of the attention.
        grid: patches of a side of the images that the position embeddings are of; for
            other images they are interpolated.
        registers: tokens beside the class token that are no patch.
        layer_scale: initial factor on the branches; None for none.
        swiglu: the kind of `Perceptron`.
        class_position: whether the class token has a position embedding.
        interpolation: of the position embeddings.
        pool: one of `POOLS`.
        in_channels: channels of the images.
        rngs: the stream "params" draws the initial weights, all with a deviation of
            0.02, as timm does.
    """

    def __init__(
        self,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        *,
        grid: int,
        registers: int = 0,
        layer_scale: float | None = None,
        swiglu: bool = False,
        class_position: bool = True,
        interpolation: Interpolation = TIMM,
        pool: str = "own",
        in_channels: int = 3,
        rngs: nnx.Rngs,
    ):
        assert pool in POOLS, pool
        self.cls_token = nnx.Param(_initial(rngs.params(), (1, 1, width)))
        if registers:
            self.reg_token = nnx.Param(_initial(rngs.params(), (1, registers, width)))
        positions = (1, grid**2 + class_position, width)
        self.pos_embed = nnx.Param(_initial(rngs.params(), positions))
        self.patch_embed = PatchEmbedding(in_channels, width, patch, rngs=rngs)
        self.blocks = nnx.List(
            TransformerBlock(
                width, heads, layer_scale=layer_scale, swiglu=swiglu, rngs=rngs
            )
            for _ in range(depth)
        )
        self.norm = _norm(width, rngs)
        self.patch, self.grid, self.registers = patch, grid, registers
        self.class_position = class_position
        self.interpolation, self.pooling = interpolation, pool
        # Blocks, but the last, whose class tokens the pool takes too.
        last = range(max(0, depth - LAST), depth - 1)
        self.kept = tuple(last) if pool == "last_4_and_average" else ()
        tokens = 2 + len(self.kept) if pool.endswith("and_average") else 1
        self.num_features = width * tokens
        stem = ("cls_token", "pos_embed", "patch_embed")
        blocks = [(f"block{i}", (f"blocks.{i}",)) for i in range(depth - 1)]
        self.stages = (
            ("stem", (*stem, "reg_token") if registers else stem),
            *blocks,
            (f"block{depth - 1}", (f"blocks.{depth - 1}", "norm")),
        )

    @property
    def prefix(self) -> int:
        """How many tokens there are before the patches'."""
        return 1 + self.registers

    def run_stage(
        self,
        stage: str,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """See `Backbone.run_stage`: images to tokens (n, t, c), and tokens to tokens.

        Raises:
            InputError: a side of the images is no multiple of the patch's.
        """
        del mask, rngs  # No layer looks at more than one image, and none is random.
        if stage == "stem":
            return self._embed(x)
        number = int(stage.removeprefix("block"))
        if not self.kept:
            return self.blocks[number](x)
        end = x.shape[1] - sum(block < number for block in self.kept)
        tokens = self.blocks[number](x[:, :end])
        class_token = tokens[:, :1] if number in self.kept else tokens[:, :0]
        return jnp.concatenate([tokens, x[:, end:], class_token], axis=1)

    def _embed(self, images: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        if height % self.patch or width % self.patch:
            low = max(1, min(height, width) // self.patch) * self.patch
            raise InputError(
                f"The network cuts images into patches of {self.patch}×{self.patch} "
                f"pixels, which do not fill {height}×{width} pixels. Set a multiple "
                f"of {self.patch} as the image size, such as {low} or "
                f"{low + self.patch}."
            )
        x = self.patch_embed(images)
        new = height // self.patch, width // self.patch
        positions = resize_positions(
            self.pos_embed[...], self.grid, new, self.interpolation
        ).astype(x.dtype)
        first = self.cls_token[...].astype(x.dtype)
        if self.class_position:
            first, positions = first + positions[:, :1], positions[:, 1:]
        prefix = [first]
        if self.registers:
            prefix.append(self.reg_token[...].astype(x.dtype))
        # Not len(x): an exported program leaves the number of images open.
        wide = [jnp.broadcast_to(p, (x.shape[0], *p.shape[1:])) for p in prefix]
        return jnp.concatenate([*wide, x + positions], axis=1)

    def pool(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Map tokens (n, t, c) to what the head sees, (n, num_features), normalized.

        "average" normalizes the mean of the patches (timm's and MAE's `fc_norm`);
        DINOv2's two normalize before.
        """
        del rngs
        end = features.shape[1] - len(self.kept)
        if self.pooling == "average":
            return self.norm(features[:, self.prefix : end].mean(axis=1))
        tokens = self.norm(features)
        if self.pooling == "own":
            return tokens[:, 0]
        # The last block's class token comes after those of the blocks before it.
        kept = tokens[:, end:].reshape(
            tokens.shape[0], len(self.kept) * tokens.shape[2]
        )
        classes = [kept, tokens[:, 0]]
        mean = tokens[:, self.prefix : end].mean(axis=1)
        return jnp.concatenate([*classes, mean], axis=1)


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "giant": {"width": 1536, "depth": 40, "heads": 24, "swiglu": True},
}
_DINOV2 = {"patch": 14, "grid": 37, "layer_scale": 1e-5}
# DINOv2's own networks interpolate with registers as timm does, without them otherwise.
_OFFSET, _REGISTERS = {"interpolation": DINOV2}, {"registers": 4}


def _torchvision(size: str, patch: int, image_size: int) -> dict[str, Any]:
    grid = image_size // patch
    return _SIZES[size] | {
        "patch": patch,
        "grid": grid,
        "interpolation": TORCHVISION,
    }


# By timm's names; by torchvision's, where a size is behind the networks of the weights
# of that size (SWAG_E2E); by those of DINOv2's `hubconf`; and RAD-DINO (Perez-Garcia et
# al., Nature Machine Intelligence 2025), as in Hugging Face's transformers.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    **{
        f"vit_{size}_patch16_224": _SIZES[size] | {"patch": 16, "grid": 14}
        for size in ("tiny", "small", "base", "large")
    },
    "vit_b_16": _torchvision("base", 16, 224),
    "vit_b_16_384": _torchvision("base", 16, 384),
    "vit_b_32": _torchvision("base", 32, 224),
    "vit_l_16": _torchvision("large", 16, 224),
    "vit_l_16_512": _torchvision("large", 16, 512),
    "rad_dino": _SIZES["base"] | _DINOV2 | {"interpolation": HUGGING_FACE},
}
for _size in ("small", "base", "large", "giant"):
    _options = _SIZES[_size] | _DINOV2
    CONFIGURATIONS |= {
        f"vit_{_size}_patch14_dinov2": _options,
        f"vit_{_size}_patch14_reg4_dinov2": _options
        | _REGISTERS
        | {"class_position": False},
        f"dinov2_vit{_size[0]}14": _options | _OFFSET,
        f"dinov2_vit{_size[0]}14_reg": _options | _REGISTERS,
    }


def build(
    name: str, *, in_channels: int, rngs: nnx.Rngs, pool: str = "own"
) -> VisionTransformer:
    """Builds one of `CONFIGURATIONS` by name."""
    options = CONFIGURATIONS[name]
    return VisionTransformer(**options, pool=pool, in_channels=in_channels, rngs=rngs)
