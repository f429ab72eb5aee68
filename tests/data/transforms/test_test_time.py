"""Views of test-time augmentation against torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from jaxmed.data.images.resizing import Resizing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.data.transforms.test_time import VIEWS, check_views, see
from jaxmed.errors import InputError

SIZE, FACTOR = 16, 1.3  # 21 and 16 pixels: the middle is rounded
CROP = Resizing(mode="crop", factor=FACTOR)


def turns(image):
    return [torch.rot90(image, k, (-2, -1)) for k in range(4)]


ORACLES = {
    "none": lambda image: [F.center_crop(image, SIZE)],
    "flip": lambda image: [
        F.center_crop(image, SIZE),
        F.horizontal_flip(F.center_crop(image, SIZE)),
    ],
    "five_crop": v2.FiveCrop(SIZE),
    "ten_crop": v2.TenCrop(SIZE),
    "dihedral": lambda image: [
        *turns(F.center_crop(image, SIZE)),
        *turns(F.horizontal_flip(F.center_crop(image, SIZE))),
    ],
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("views", VIEWS)
def test_views_are_torchvisions(views, channels):
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 25, channels), np.uint8)
    prepare = Preprocessing(image_size=SIZE, resizing=CROP)
    look = jax.jit(
        lambda images, number: see(images, number, views=views, preprocessing=prepare)
    )
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    # FiveCrop is of what is kept, which is a square.
    kept = v2.Compose([v2.Resize(21, antialias=True), v2.CenterCrop(21)])(tensor)
    expected = [
        v2.Normalize(prepare.mean, prepare.std)(view.expand(-1, 3, -1, -1))
        for view in ORACLES[views](kept)
    ]
    assert len(expected) == VIEWS[views]
    for number, view in enumerate(expected):
        found = look(jnp.asarray(images), number)
        np.testing.assert_allclose(found, view.permute(0, 2, 3, 1), atol=1e-3)
    assert look._cache_size() == 1


def test_crops_need_images_that_are_cropped():
    for views in ("five_crop", "ten_crop"):
        check_views(views, CROP)
        with pytest.raises(InputError, match=f"{views} takes the corners .* by pad"):
            check_views(views, Resizing(mode="pad"))
    with pytest.raises(InputError, match="Did you mean 'flip'"):
        check_views("flips", CROP)
