"""Mixed batches are torchvision's and the papers'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from jaxmed.data.transforms.mixup import Mixing, box, next_images
from jaxmed.errors import InputError

IMAGES = np.random.default_rng(0).normal(size=(6, 9, 12, 3)).astype(np.float32)
REAL = np.ones(6, np.float32)
PADDED = np.array([1, 1, 1, 1, 0, 0], np.float32)
MIX = jax.jit(Mixing.mix, static_argnums=0)


def mixed(mixing, seed, mask=REAL, images=IMAGES):
    return map(np.asarray, MIX(mixing, images, mask, jax.random.key(seed)))


def by_torchvision(transform, parameters):
    """Torchvision mixes with the image before, so it gets the batch backwards."""
    batch = torch.from_numpy(IMAGES[::-1].transpose(0, 3, 1, 2).copy())
    known = {"labels": None, "batch_size": len(batch)}
    done = transform.transform(batch, known | parameters)
    return done.numpy().transpose(0, 2, 3, 1)[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_torchvisions(seed):
    images, partner, share = mixed(Mixing(mixup=0.8), seed)
    assert images.dtype == np.float32
    assert 0 < share < 1
    np.testing.assert_array_equal(partner, [1, 2, 3, 4, 5, 0])
    expected = by_torchvision(v2.MixUp(num_classes=2), {"lam": float(share)})
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)


def test_boxes_are_torchvisions():
    transform = v2.CutMix(num_classes=2)
    height, width = 9, 12
    marks = jax.jit(lambda *place: box(*place, height, width)[..., 0])
    empty = 0
    for seed in range(200):
        torch.manual_seed(seed)
        drawn = transform.make_params([torch.zeros(1, 3, height, width)])
        torch.manual_seed(seed)
        share = float(transform._dist.sample(()))
        column, row = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
        left, top, right, bottom = drawn["box"]
        expected = np.zeros((height, width))
        expected[top:bottom, left:right] = 1
        inside = np.asarray(marks(share, row, column))
        np.testing.assert_array_equal(inside, expected)
        assert 1 - inside.mean() == pytest.approx(drawn["lam_adjusted"], abs=1e-6)
        empty += not inside.any()
    assert empty < 50


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_is_torchvisions(seed):
    images, partner, share = mixed(Mixing(cutmix=1.0), seed)
    taken = images != IMAGES
    rows, columns = np.nonzero(taken.any(axis=(0, 3)))
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    expected = by_torchvision(v2.CutMix(num_classes=2), {"box": edges})
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(partner, [1, 2, 3, 4, 5, 0])
    # The share is that of the pixels which were kept, to the pixel.
    assert share * 9 * 12 == pytest.approx(9 * 12 - taken[0, ..., 0].sum(), abs=1e-4)


def shares(mixing, count, side=1):
    def draw(key):
        return mixing.mix(jnp.zeros((1, side, side, 1)), jnp.ones(1), key)[2]

    return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), count))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_share_is_from_the_beta_distribution(alpha):
    drawn = np.asarray(shares(Mixing(mixup=alpha), 2000))
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmixs_share_has_the_mean_of_the_papers_boxes():
    random, side, values = np.random.default_rng(0), 32, []
    for _ in range(4000):
        cut = np.sqrt(1 - random.beta(0.5, 0.5))
        center, half = random.integers(0, side, 2), int(side * cut) // 2
        low, high = np.clip(center - half, 0, side), np.clip(center + half, 0, side)
        values.append(1 - np.prod(high - low) / side**2)
    drawn = np.asarray(shares(Mixing(cutmix=0.5), 4000, side))
    assert stats.ks_2samp(drawn, values).pvalue > 0.01


def test_with_both_half_of_the_batches_take_each():
    mixing = Mixing(mixup=1.0, cutmix=1.0)
    pasted = 0
    for seed in range(100):
        images, _, share = mixed(mixing, seed)
        either = np.isin(images, IMAGES).all()
        pasted += either
        blend = share * IMAGES + (1 - share) * np.roll(IMAGES, -1, axis=0)
        assert either or np.allclose(images, blend, rtol=1e-4, atol=1e-5)
    # Three standard deviations of 100 fair coins.
    assert abs(pasted - 50) <= 15


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([1, 1, 1, 1, 0, 0], [1, 2, 3, 0, 4, 5]),
        ([0, 1, 0, 1, 1, 0], [0, 3, 2, 4, 1, 5]),
        ([1, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_partner_is_the_next_image_that_is_not_padding(mask, expected):
    partner = next_images(jnp.asarray(mask, jnp.float32))
    np.testing.assert_array_equal(partner, expected)
    assert partner.dtype == np.int32


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.5), Mixing(cutmix=1.0)])
def test_padding_is_mixed_into_no_image(mixing):
    spoilt = IMAGES.copy()
    spoilt[PADDED == 0] = 1e6
    images, _, share = mixed(mixing, 1, PADDED, spoilt)
    alone, _, same = mixed(mixing, 1, PADDED[:4], IMAGES[:4])
    assert share == same
    np.testing.assert_allclose(images[:4], alone, rtol=1e-6)


def test_the_key_decides():
    mixing = Mixing(mixup=1.0)
    for first, second in zip(mixed(mixing, 3), mixed(mixing, 3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({float(list(mixed(mixing, seed))[2]) for seed in range(10)}) == 10


def test_without_an_alpha_nothing_is_mixed():
    assert not Mixing()
    assert Mixing(mixup=0.1)
    assert Mixing(cutmix=0.1)
    images, _, share = mixed(Mixing(), 0)
    np.testing.assert_array_equal(images, IMAGES)
    assert share == 1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_an_impossible_alpha_is_refused(name, alpha):
    with pytest.raises(InputError, match=f"{name} must be at least 0, got"):
        Mixing(**{name: alpha})
