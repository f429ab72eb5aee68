"""Plans of the activation cache, and the reasons against caching."""

from dataclasses import replace

import pytest

from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.geometry import HorizontalFlip
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.inference.activations import ActivationStore
from jaxmed.strategies import create_strategy
from jaxmed.training.config import CacheSettings, TrainingConfig
from jaxmed.training.inputs.cache_plan import plan_cache

FLIPPED = Augmentation(ops=(HorizontalFlip(),))


@pytest.fixture
def plan(new_tiny, quarters):
    model = new_tiny()

    def decide(strategy="frozen", epochs=3, phase=None, **changes):
        config = TrainingConfig(preprocessing=Preprocessing(image_size=12), **changes)
        options = {"epochs": epochs}
        phase = phase or create_strategy(strategy, model, **options).phases[0]
        return plan_cache(model, phase, quarters, config)

    return decide


def test_the_head_is_trained_on_pooled_features(plan):
    found = plan("frozen").plan
    assert (found.start_stage, found.shape, found.views) == ("head", (8,), 1)
    assert found.bytes == (30 + 25) * 8 * 4
    assert found.describe() == (
        "Activations of the frozen layers before head are cached in memory: 8 float32 "
        "for each of 30 train images and 25 val images, 0.0 MB."
    )


def test_a_stage_is_trained_on_the_map_that_enters_it(plan):
    found = plan("partial", cache=CacheSettings(mode="bfloat16")).plan
    assert (found.start_stage, found.shape) == ("layer1", (6, 6, 6))
    assert found.bytes == (30 + 25) * 6**3 * 2


def test_views_are_cached_where_the_user_wants_them(plan):
    settings = CacheSettings(views=2)
    found = plan("frozen", augmentation=FLIPPED, cache=settings).plan
    assert found.views == 2
    assert "30 train images in 2 views and 25 val images" in found.describe()
    assert found.bytes == (2 * 30 + 25) * 8 * 4
    assert plan("frozen", cache=settings).plan.views == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"strategy": "full"}, ""),
        ({"mixing": Mixing(mixup=1.0)}, "mixing images, by mixup or cutmix, is not"),
        ({"augmentation": FLIPPED}, "every epoch augments the images anew"),
        ({"epochs": 1}, "filling a cache takes 1 of 1 epochs' work"),
        (
            {"augmentation": FLIPPED, "cache": CacheSettings(views=3)},
            "filling a cache takes 3 of 3 epochs' work",
        ),
        ({"cache": CacheSettings(mode="off")}, "the cache is off"),
        (
            {"strategy": "partial", "cache": CacheSettings(memory=1e-6)},
            "reading 0.0 GB of activations before layer1 from disk takes longer than",
        ),
    ],
)
def test_why_nothing_is_cached(plan, changes, why):
    found, reason, _ = plan(**changes)
    assert found is None
    assert reason.startswith(why)
    assert bool(reason) == bool(why)


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({}, "head"),
        ({"augmentation": FLIPPED}, "head"),
        ({"epochs": 1}, "head"),
        ({"strategy": "partial"}, "layer1"),
        ({"strategy": "partial", "augmentation": FLIPPED}, None),
        ({"cache": CacheSettings(mode="bfloat16")}, None),
        ({"cache": CacheSettings(mode="off")}, None),
        ({"strategy": "full"}, None),
    ],
)
def test_what_validation_and_prediction_begin_with(plan, changes, stage):
    assert plan(**changes).evaluation_stage == stage


def test_one_epoch_is_worth_a_cache_that_others_use(plan):
    assert plan(epochs=1, cache=CacheSettings(store=ActivationStore())).plan


def test_updating_statistics_are_never_cached(plan, new_tiny):
    phase = create_strategy("frozen", new_tiny(), epochs=3).phases[0]
    updating = replace(phase, updating_bn_stats=("backbone",))
    for mode in ("auto", "float32"):
        _, why, _ = plan(phase=updating, cache=CacheSettings(mode=mode))
        assert why == "stem, its first stage, updates its BatchNorm statistics"


def test_what_costs_more_than_reading_it_goes_to_disk(plan, tmp_path, monkeypatch):
    settings = CacheSettings(memory=1e-9, folder=tmp_path)
    monkeypatch.setattr("jaxmed.training.inputs.cache_plan.OPERATIONS_PER_BYTE", 100)
    found = plan("frozen", cache=settings).plan
    assert found.folder == tmp_path
    assert "cached on disk" in found.describe()
    # By force also what costs less.
    forced = plan("partial", cache=replace(settings, mode="float32")).plan
    assert forced.folder == tmp_path


def test_a_disk_without_room_is_not_used(plan, tmp_path, monkeypatch):
    settings = CacheSettings(mode="float32", memory=0, folder=tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert plan("frozen", cache=settings) == (
        None,
        f"{tmp_path} has 0.0 GB left, not 0.0 GB of activations before head",
        "head",
    )
    (tmp_path / "file").touch()
    blocked = replace(settings, folder=tmp_path / "file")
    _, why, _ = plan("frozen", cache=blocked)
    assert why.endswith("cannot be used (File exists)")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "flaot32"}, "Unknown cache mode 'flaot32'. Did you mean 'float32'?"),
        ({"views": -1}, "The cache's views must be at least 0, got -1."),
        ({"memory": -0.5}, "The cache's memory must be at least 0, got -0.5."),
    ],
)
def test_bad_settings_are_a_sentence(settings, message):
    with pytest.raises(InputError) as caught:
        CacheSettings(**settings)
    assert str(caught.value) == message
