"""Activations of frozen layers: computed once, by what decides them."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.activations import (
    ActivationStore,
    FrozenStages,
    get_activations,
    predict_from,
)
from jaxmed.inference.forward import predict_split
from jaxmed.models.parameters import load, split
from jaxmed.runtime.sharding import data_mesh
from jaxmed.strategies import create_strategy
from jaxmed.training.config import CacheSettings
from jaxmed.training.fit import fit

PREPARE = Preprocessing(image_size=12)


def stages_of(model, stage="head", prepare=PREPARE):
    return FrozenStages.of(model, stage, prepare, data_mesh())


def fingerprint(model, *args):
    return stages_of(model, *args).fingerprint((12, 12, 3))


def with_changed(model, path):
    parts = split(model)
    arrays = parts.params | parts.stats
    load(model, arrays | {path: arrays[path] + 1})
    return model


def test_the_fingerprint_is_of_all_that_decides_and_of_nothing_else(new_tiny):
    before = fingerprint(new_tiny())
    same = [new_tiny(5, head="hidden"), with_changed(new_tiny(), "head.out.bias")]
    assert {fingerprint(model) for model in same} == {before}
    others = [
        fingerprint(with_changed(new_tiny(), "backbone.bn2.mean")),
        fingerprint(with_changed(new_tiny(), "backbone.conv1.kernel")),
        fingerprint(new_tiny(), "layer1"),
        fingerprint(new_tiny(), "head", replace(PREPARE, std=(0.2, 0.2, 0.2))),
        fingerprint(new_tiny(), "head", replace(PREPARE, image_size=14)),
    ]
    assert len({before, *others}) == 6
    # Before a stage, what comes after it does not count.
    first = fingerprint(new_tiny(), "layer1")
    later = with_changed(new_tiny(), "backbone.conv2.kernel")
    assert fingerprint(later, "layer1") == first


def test_an_image_has_the_same_bits_wherever_it_is(new_tiny, quarters):
    """What a run computes anew is what another one has left it."""
    stages, train = stages_of(new_tiny()), quarters.train
    whole = get_activations(stages, train, None)
    order = np.random.default_rng(0).permutation(len(train))[:19]
    part = get_activations(stages, train.take(order), None)
    np.testing.assert_array_equal(part, whole[order])


def test_other_splits_of_the_same_images_use_what_is_in_memory(new_tiny, quarters):
    store, model, train = ActivationStore(), new_tiny(), quarters.train
    kept = get_activations(stages_of(model), train, store)
    plain = kept.copy()
    kept[:] = 7
    assert get_activations(stages_of(new_tiny(2)), train, store) is kept
    fold = train.take(np.arange(20, 5, -1))
    assert (get_activations(stages_of(model), fold, store) == 7).all()
    later = with_changed(model, "backbone.bn2.mean")
    assert not (get_activations(stages_of(later), train, store) == 7).any()
    # Half of a split is there.
    both = train.take(np.arange(20))
    mixed = replace(
        both, images=np.concatenate([both.images[:10], quarters.val.images[:10]])
    )
    found = get_activations(stages_of(new_tiny()), mixed, store)
    assert (found[:10] == 7).all()
    val = get_activations(stages_of(new_tiny()), quarters.val, None)
    np.testing.assert_array_equal(found[10:], val[:10])
    assert not np.array_equal(plain, kept)


def test_memory_is_bounded(new_tiny, quarters):
    model = new_tiny()
    size = 30 * 8 * 4 / 1e9
    store = ActivationStore(memory=1.5 * size)
    first = get_activations(stages_of(model), quarters.train, store)
    get_activations(stages_of(model), quarters.val, store)
    again = get_activations(stages_of(model), quarters.train, store)
    assert again is not first


def test_another_process_uses_what_is_on_disk(
    new_tiny, quarters, tmp_path, monkeypatch
):
    monkeypatch.setattr("jaxmed.inference.activations.WORTH_A_FILE", 0)

    def new_store():
        return ActivationStore(disk=0.001, folder=tmp_path)

    stages, train = stages_of(new_tiny()), quarters.train
    plain = get_activations(stages, train, new_store())
    (path,) = tmp_path.glob("activations/*/*.npz")
    # Rows that nobody computes, so that it shows who read them.
    store = new_store()
    assert store.disk
    name = stages.fingerprint((12, 12, 3))
    store.disk.write(name, train.image_keys, np.full_like(plain, 7))
    assert (
        get_activations(stages, train.take(np.arange(4, 9)), new_store()) == 7
    ).all()
    path.write_bytes(path.read_bytes()[:-400])
    np.testing.assert_array_equal(get_activations(stages, train, new_store()), plain)


@pytest.mark.parametrize("strategy", ["frozen", "partial"])
def test_seeds_share_what_is_frozen_and_end_as_alone(new_tiny, quarters, strategy):
    store = ActivationStore()

    def trained(seed, store):
        model = new_tiny()
        result = fit(
            model,
            quarters,
            create_strategy(strategy, model, epochs=2),
            seed=seed,
            batch_size=8,
            select="val_loss",
            preprocessing=PREPARE,
            cache=CacheSettings(mode="float32", store=store),
        )
        return model, result

    trained(0, store)
    model, result = trained(1, store)
    alone, expected = trained(1, None)
    parts, others = split(model), split(alone)
    for path, array in (others.params | others.stats).items():
        found = (parts.params | parts.stats)[path]
        np.testing.assert_array_equal(found, array, err_msg=path)
    np.testing.assert_array_equal(result.val.probs, expected.val.probs)

    stage = {"frozen": "head", "partial": "layer1"}[strategy]
    assert result.evaluation_stage == stage
    for name in ("val", "test"):
        found = predict_from(
            stage, model, quarters, name, preprocessing=PREPARE, store=store
        )
        whole = predict_split(model, quarters, name, preprocessing=PREPARE)
        np.testing.assert_allclose(found.probs, whole.probs, rtol=1e-4, atol=1e-6)
        if name == "val":
            np.testing.assert_array_equal(found.probs, result.val.probs)
