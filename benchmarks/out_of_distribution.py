"""Out-of-distribution scores: do they separate sources, and changed images?

    JAXMED_TEST_DATA=/path/to/data python benchmarks/out_of_distribution.py

prints the two tables of docs/external_validation.md: EfficientNet-Lite0 with ImageNet
weights on chest X-rays and on PneumoniaMNIST. It takes about ten minutes on two cores.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import jaxmed
import jaxmed_convert
from jaxmed.data import Dataset, Split
from jaxmed.inference.features import compute_layer_means, layer_widths
from jaxmed.inference.out_of_distribution import fit_features
from jaxmed.inference.preprocessing import preprocessing_of

TRAIN, CHANGED, NEIGHBORS, QUANTILE = 1500, 300, 10, 0.99
# Of the means of layers of the images of a set; those of the last are the head's input.
Distance = Callable[[np.ndarray], np.ndarray]


def change(
    images: np.ndarray, blurs: Sequence[float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Change contrast, sharpness, noise, sign and field of view of uint8 images."""
    wide = images.astype(np.float32)
    mean = wide.mean(axis=(1, 2, 3), keepdims=True)
    changed = {f"contrast × {c}": mean + c * (wide - mean) for c in (0.7, 0.4)}
    changed |= {f"blur {s}": gaussian_filter(wide, (0, s, s, 0)) for s in blurs}
    for sd in (8, 25):
        changed[f"noise {sd}"] = wide + sd * rng.normal(size=wide.shape)
    changed |= {"inversion": 255 - wide}
    changed |= {f"crop {share}": crop(images, share) for share in (0.8, 0.5)}
    return {k: np.rint(v).clip(0, 255).astype(np.uint8) for k, v in changed.items()}


def crop(images: np.ndarray, share: float) -> np.ndarray:
    """Cut out squares of a share of the side, and enlarge them again."""
    side, cropped = images.shape[1], []
    kept = int(side * share)
    for number, image in enumerate(images[..., 0]):
        rng = np.random.default_rng(number)
        top, left = (rng.integers(0, side - kept + 1) for _ in range(2))
        part = Image.fromarray(image[top : top + kept, left : left + kept])
        cropped.append(np.asarray(part.resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(cropped)[..., None]


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Bring gray images to another size."""
    bicubic = Image.Resampling.BICUBIC
    small = (
        Image.fromarray(one).resize((side, side), bicubic) for one in images[..., 0]
    )
    return np.stack([np.asarray(one) for one in small])[..., None]


def pooled_mahalanobis(train: np.ndarray, labels: np.ndarray) -> Distance:
    """Measure the distance from the nearest class in the features of the head."""
    means = np.stack([train[labels == c].mean(axis=0) for c in (0, 1)])
    covariance, _ = ledoit_wolf(train - means[labels], assume_centered=True)
    root = np.linalg.cholesky(np.linalg.inv(covariance))

    def measure(features: np.ndarray) -> np.ndarray:
        away = [np.linalg.norm((features - mean) @ root, axis=1) for mean in means]
        return np.min(away, axis=0)

    return measure


def neighbors(train: np.ndarray) -> Distance:
    """Measure the distance from the k-th neighbor (Sun et al., ICML 2022)."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    found = NearestNeighbors(n_neighbors=NEIGHBORS).fit(unit(train))
    return lambda features: found.kneighbors(unit(features))[0][:, -1]


def show(
    size: int,
    own: Dataset,
    external: dict[str, np.ndarray],
    blurs: Sequence[float],
) -> None:
    """Print a table: AUROC against the own test images, and the share flagged."""
    model = jaxmed.create_model("efficientnet_lite0", num_classes=2)
    jaxmed_convert.initialize(model, "imagenet")
    prepare = preprocessing_of(model, size)
    widths = layer_widths(model, prepare)

    def compute(split: Split) -> np.ndarray:
        return compute_layer_means(model, split, preprocessing=prepare)

    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(own.train))[:TRAIN])
    some = np.sort(rng.permutation(len(own.test))[:CHANGED])
    train, val, test = own.train.take(rows), own.val, own.test
    sets = external | change(np.asarray(test.images[some]), blurs, rng)
    fitted, of_val, of_test = (compute(split) for split in (train, val, test))

    def pooled(features: np.ndarray) -> np.ndarray:
        return features[:, -widths[-1] :].astype(np.float64)

    head = LogisticRegression(C=0.1, max_iter=3000)
    scale = StandardScaler().fit(pooled(fitted))
    head.fit(scale.transform(pooled(fitted)), train.labels)

    def energy(features: np.ndarray) -> np.ndarray:
        logit = head.decision_function(scale.transform(pooled(features))) / 2
        return -np.logaddexp(logit, -logit)

    nearest_class = pooled_mahalanobis(pooled(fitted), train.labels)
    nearest_images = neighbors(pooled(fitted))
    distances: dict[str, Distance] = {
        "layers": fit_features(fitted, widths, of_val).measure,
        "pooled": lambda features: nearest_class(pooled(features)),
        "neighbors": lambda features: nearest_images(pooled(features)),
        "energy": energy,
    }
    limits = {k: np.quantile(f(of_val), QUANTILE) for k, f in distances.items()}
    print(f"\n{own.source}, {size} pixels: AUROC (share flagged)")
    print(" | ".join(["", *distances]))
    cells = [f"{(f(of_test) > limits[k]).mean():.3f}" for k, f in distances.items()]
    print(" | ".join(["own test, flagged", *cells]))
    for name, images in sets.items():
        ids = tuple(map(str, range(len(images))))
        found = compute(Split(images=images, labels=np.zeros(len(ids), int), ids=ids))
        cells = []
        for kind, measure in distances.items():
            inner = measure(of_test)
            if name not in external:
                inner = inner[some]
            outer = measure(found)
            truth = np.repeat([0, 1], [len(inner), len(outer)])
            auroc = roc_auc_score(truth, np.concatenate([inner, outer]))
            cells.append(f"{auroc:.3f} ({(outer > limits[kind]).mean():.2f})")
        print(" | ".join([name, *cells]), flush=True)


def main() -> None:
    folder = Path(os.environ["JAXMED_TEST_DATA"])
    large, small = (
        jaxmed.load_dataset(f"folder:{folder}/chest_xray", image_size=size)
        for size in (224, 112)
    )
    mnist = f"npz:{folder}/medmnist"
    pneumonia = jaxmed.load_dataset(f"{mnist}/pneumoniamnist_reassembled.npz")
    breast = jaxmed.load_dataset(f"{mnist}/breastmnist.npz")
    ultrasound = np.concatenate([breast.val.images, breast.test.images])
    xrays = np.asarray(small.test.images)
    sets = {"PneumoniaMNIST": pneumonia.test.images, "BreastMNIST": ultrasound}
    show(224, large, sets, (1, 3))
    sets = {"X-rays at 28": shrink(xrays, 28), "X-rays at 112": xrays}
    show(112, pneumonia, sets | {"BreastMNIST": ultrasound}, (0.5, 1))


if __name__ == "__main__":
    main()
