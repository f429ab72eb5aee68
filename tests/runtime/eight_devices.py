"""Run by test_sharding.py in a process of its own, with eight virtual CPU devices.

Takes the same steps on one device, on a mesh of eight, and with a literal
`jax.pmap` step, and prints as JSON how far the resulting weights are apart.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fixtures.tiny_network import tiny

from jaxmed.data.batching import windows
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.geometry import HorizontalFlip, QuarterTurns
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import load, merge, split, stats_of
from jaxmed.runtime.sharding import data_mesh, replicate, to_host
from jaxmed.strategies import create_strategy
from jaxmed.training.config import TrainingConfig
from jaxmed.training.inputs.activation_cache import fill_cache
from jaxmed.training.inputs.cache_plan import CachePlan
from jaxmed.training.loss import Loss
from jaxmed.training.state import Images, StepPlan, all_weights, begin_phase
from jaxmed.training.step import compiled_train_step

STEPS, BATCH, CLASSES = 3, 16, 4


class Prepare(Preprocessing):
    """Preprocessing whose every result is exact in float32."""

    image_size = 16

    def __call__(self, images):
        return self.normalize(self.resize(images))

    def resize(self, images):
        return images.astype(np.float32)

    def normalize(self, images):
        return images / 64 - 2


prepare = Prepare(image_size=16)
# Exact too.
TURNED = Augmentation(ops=(HorizontalFlip(), QuarterTurns()))


def fresh_model(dtype, head="linear"):
    model = tiny(CLASSES, head=head)
    parts = split(model)
    load(model, {p: dtype(a) for p, a in (parts.params | parts.stats).items()})
    return model


def on_a_mesh(model, phase, data, order, devices, batch=BATCH, **settings):
    """Steps over an order of images, and the weights they lead to."""
    mesh = data_mesh(devices)
    plan = StepPlan(phase=phase, preprocessing=prepare, task="multiclass", **settings)
    definition, state, frozen = begin_phase(model, plan)
    state, frozen = replicate(state, mesh), replicate(frozen, mesh)
    step = compiled_train_step(definition, plan, mesh)
    images, key = replicate(data, mesh), jax.random.key(0)
    for indices, mask in windows(order, batch, mesh.size, plan.accumulate):
        state = step(
            state, frozen=frozen, images=images, indices=indices, mask=mask, key=key
        )
    return to_host(all_weights(state, frozen))


def in_windows(data, order, devices):
    """Steps of all that a plan can ask for.

    48 images make batches of 11, 11, 11, 11 and 4, in windows of 2, 2 and 1.
    """
    model = fresh_model(np.float64, "dropout")
    return on_a_mesh(
        model, create_strategy("full", model, learning_rate=1e-4).phases[0],
        data, order, jax.devices()[:devices], 11,
        accumulate=2, ema=0.5, augmentation=TURNED, mixing=Mixing(mixup=1.0),
        loss=Loss(class_weights=(1.0, 2.0, 0.5, 1.0)),
    )  # fmt: skip


def by_pmap(model, phase, data, order):
    """The step as it was written before meshes: replicas, and pmean of gradients."""
    set_training_norms(model, phase.training_norms(model), axis_name="replicas")
    definition, params, stats = split(model)
    optimizer = phase.transformation(params)

    def step(params, stats, state, images, labels):
        def objective(params):
            model = merge(definition, params, stats)
            losses, _ = Loss()(model(prepare(images)), labels, "multiclass")
            return losses.mean(), stats_of(model)

        gradients, stats = jax.grad(objective, has_aux=True)(params)
        gradients = jax.lax.pmean(gradients, "replicas")
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), stats, state

    devices = jax.device_count()
    stepped = jax.pmap(step, axis_name="replicas")
    carried = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * devices),
        (params, stats, optimizer.init(params)),
    )
    for indices in order.reshape(STEPS, -1):
        images = data.images[indices].reshape(devices, -1, *data.images.shape[1:])
        labels = data.labels[indices].reshape(devices, -1)
        carried = stepped(*carried, images, labels)
    params, stats, _ = jax.tree.map(lambda leaf: np.array(leaf[0]), carried)
    return params | stats


def cached(images, devices, dtype):
    """What enters the last stage, in two views of 20 train images, and 3 val images."""

    def part(first, count):
        return Split(
            images=images[first:][:count],
            labels=np.arange(count, dtype=np.int32) % CLASSES,
            ids=tuple(f"{first + i}" for i in range(count)),
        )

    data = Dataset(
        name="drawn",
        source="drawn",
        task="multiclass",
        class_names=tuple("abcd"),
        train=part(0, 20),
        val=part(20, 3),
        test=part(23, 1),
        image_size=16,
    )
    plan = CachePlan(
        start_stage="layer1", shape=(8, 8, 6), dtype=dtype, train=20, val=3, views=2
    )
    config = TrainingConfig(preprocessing=prepare, augmentation=TURNED)
    inputs = fill_cache(plan, fresh_model(dtype), data, config, mesh=data_mesh(devices))
    return {"train": np.array(inputs.train), "val": inputs.val}


def furthest(weights, expected):
    """Relative differences: of the worst tensor, and of all weights as one vector."""
    differences = {p: np.linalg.norm(weights[p] - expected[p]) for p in expected}
    norms = {p: np.linalg.norm(expected[p]) for p in expected}
    whole = np.linalg.norm(list(differences.values())) / np.linalg.norm(
        list(norms.values())
    )
    return {
        "tensor": float(max(differences[p] / norms[p] for p in expected)),
        "whole": float(whole),
    }


def main(precision):
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", precision == "float64")
    dtype = {"float32": np.float32, "float64": np.float64}[precision]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    data = Images(images, rng.integers(0, CLASSES, 64).astype(np.int32))
    order = rng.permutation(64)[: STEPS * BATCH].astype(np.int32)
    model = fresh_model(dtype)
    phase = create_strategy("full", model, learning_rate=1e-4).phases[0]
    one = on_a_mesh(fresh_model(dtype), phase, data, order, jax.devices()[:1])
    eight = on_a_mesh(fresh_model(dtype), phase, data, order, jax.devices())
    pmapped = by_pmap(fresh_model(dtype), phase, data, order)
    assert all(a.dtype == dtype for a in one.values())
    results = {"mesh": furthest(eight, one), "pmap": furthest(pmapped, one)}
    one, eight = (cached(images, jax.devices()[:count], dtype) for count in (1, 8))
    results["cached"] = furthest(eight, one)
    if precision == "float64":
        one, eight = (in_windows(data, order, devices) for devices in (1, 8))
        results["windows"] = furthest(eight, one)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
