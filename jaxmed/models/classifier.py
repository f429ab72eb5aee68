"""A backbone with a head: what jaxmed trains, evaluates, explains and exports."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from flax import nnx

from jaxmed.image_stats import scale_of
from jaxmed.models.backbone import Backbone, run_stages
from jaxmed.models.layers.initializers import uniform
from jaxmed.models.layers.lora import LowRank

HEADS = ("linear", "dropout", "hidden")


def _linear(in_features: int, out_features: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with torch.nn.Linear's initial weights: U(±1/√(fan in))."""
    zeros = nnx.initializers.zeros_init()
    layer = nnx.Linear(in_features, out_features, kernel_init=zeros, rngs=rngs)
    bound = 1 / math.sqrt(in_features)
    shape = (in_features, out_features)
    layer.kernel = nnx.Param(uniform(rngs.params(), shape, bound))
    layer.bias = nnx.Param(uniform(rngs.params(), (out_features,), bound))
    return layer


class Head(nnx.Module):
    """Pooled features to logits.

    "linear" is one linear layer, as torchvision's `fc`. "dropout" is dropout and a
    linear layer. "hidden" is a linear layer, ReLU, dropout and a linear layer.
    Initial weights follow torch.nn.Linear's defaults.

    Attributes:
        kind: one of `HEADS`.
        hidden: the hidden layer, or None.
        out: the layer that gives the logits.
    """

    def __init__(
        self,
        kind: str,
        num_features: int,
        num_classes: int,
        *,
        hidden_features: int,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        self.kind = kind
        hidden = kind == "hidden"
        self.hidden = _linear(num_features, hidden_features, rngs) if hidden else None
        self.dropout = nnx.Dropout(0.0 if kind == "linear" else dropout)
        last = hidden_features if hidden else num_features
        self.out = _linear(last, num_classes, rngs)

    def __call__(self, pooled: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Maps (n, num_features) to (n, num_classes); drops units if given `rngs`."""
        x = pooled
        if self.hidden is not None:
            x = nnx.relu(self.hidden(x))
        x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        return self.out(x)


class Classifier(nnx.Module):
    """A backbone, its pooling and a head.

    Attributes:
        architecture: the backbone's name in the zoo.
        backbone: images to a feature map.
        head: pooled features to logits.
        pool: how the backbone pools, such as "own" or "average"; see `create_model`.
        in_channels: channels of the images.
        adapter: the `jaxmed.strategies.Adapter` whose parameters the model has beside
            its own; None for none.
        mean, std: what the images are normalized by, a number per channel; see
            `jaxmed.image_stats.Scale`. At first what torchvision's default weights of
            the architecture want; whoever loads weights sets what those want.
    """

    def __init__(
        self,
        architecture: str,
        backbone: Backbone,
        head: Head,
        *,
        pool: str = "own",
        in_channels: int = 3,
    ):
        self.architecture = architecture
        self.pool = pool
        self.in_channels = in_channels
        self.mean, self.std = scale_of(architecture).for_channels(in_channels)
        self.backbone = backbone
        self.head = head
        self.adapter: Any = None

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """The stages from the image up to "head", each with its module paths."""
        stages = {
            name: tuple(f"backbone.{path}" for path in paths)
            for name, paths in self.backbone.stages
        }
        return stages | {"head": ("head",)}

    def features(
        self,
        images: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
        start: str | None = None,
        stop: str | None = None,
    ) -> jax.Array:
        """Runs the backbone, or a part of it.

        Args:
            images: see `__call__`; or what enters the stage `start`.
            mask, rngs: see `__call__`.
            start: the stage to begin with; None is the first.
            stop: the stage to end before; None runs the last one too.

        Returns:
            float32 (n, h', w', c'): the last feature map, or what enters `stop`; of a
            vision transformer tokens, (n, t, c).
        """
        with self._dropping(rngs):
            return run_stages(
                self.backbone, images, mask=mask, rngs=rngs, start=start, stop=stop
            )

    @contextmanager
    def _dropping(self, rngs: nnx.Rngs | None) -> Iterator[None]:
        """Give low-rank updates, which no family knows of, the random stream."""
        updates: list[LowRank] = []
        if rngs is not None and self.adapter is not None:
            modules = (module for _, module in nnx.iter_modules(self))
            updates = [module for module in modules if isinstance(module, LowRank)]
        for update in updates:
            # In a function, which is no part of the tree of modules.
            update.stream = lambda: rngs
        try:
            yield
        finally:
            for update in updates:
                update.stream = None

    def stage_input(
        self, stage: str, images: jax.Array, *, start_stage: str | None = None
    ) -> jax.Array:
        """Compute the input of a stage, as `__call__` takes it with `start_stage`.

        Args:
            stage: one of `stages`.
            images, start_stage: see `__call__`.

        Returns:
            float32: the map that enters the stage, (n, h, w, c), or tokens, (n, t, c),
            or the pooled features that enter the head, (n, num_features).
        """
        if stage == start_stage:
            return images
        if stage == "head":
            return self.backbone.pool(self.features(images, start=start_stage))
        return self.features(images, start=start_stage, stop=stage)

    def classify(
        self, features: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Maps a feature map from `features` to logits."""
        return self.head(self.backbone.pool(features, rngs=rngs), rngs=rngs)

    def __call__(
        self,
        images: jax.Array,
        *,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
        frozen_backbone: bool = False,
        start_stage: str | None = None,
    ) -> jax.Array:
        """Computes logits.

        Args:
            images: float32 (n, h, w, in_channels), normalized by `mean` and `std`.
            mask: float (n,), 1 for images and 0 for padding that BatchNorm's batch
                statistics must not see; None means all are images.
            rngs: turns dropout and stochastic depth on and gives their random stream
                "dropout".
            frozen_backbone: leaves them off in the backbone all the same.
            start_stage: the stage that `images` are the input of, if they are cached
                activations; see `stage_input`.

        Returns:
            float32 (n, num_classes).
        """
        if start_stage == "head":
            return self.head(images, rngs=rngs)
        inner = None if frozen_backbone else rngs
        features = self.features(images, mask=mask, rngs=inner, start=start_stage)
        return self.head(self.backbone.pool(features, rngs=inner), rngs=rngs)
