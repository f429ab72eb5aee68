"""Out-of-distribution scores: do they separate sources, and changed images?

    JAXMED_TEST_DATA=/path/to/data python benchmarks/out_of_distribution.py

prints the two tables of docs/external_validation.md: EfficientNet-Lite0 with ImageNet
weights on chest X-rays and on PneumoniaMNIST. It takes about ten minutes on two cores.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import jaxmed
import jaxmed_convert
from jaxmed.data import Split
from jaxmed.inference.features import (
    compute_features,
    compute_layer_means,
    layer_widths,
)
from jaxmed.inference.out_of_distribution import fit_features
from jaxmed.inference.preprocessing import preprocessing_of

TRAIN, CHANGED, NEIGHBORS, QUANTILE = 1500, 300, 10, 0.99
# Layers and pooled features of the images of a set.
Features = tuple[np.ndarray, np.ndarray]
Distance = Callable[[Features], np.ndarray]


def change(images: np.ndarray, blurs: tuple[float, float]) -> dict[str, np.ndarray]:
    """Change contrast, sharpness, noise, sign and field of view of uint8 images."""
    rng, wide = np.random.default_rng(0), images.astype(np.float32)
    mean = wide.mean(axis=(1, 2, 3), keepdims=True)
    changed = {f"contrast × {c}": mean + c * (wide - mean) for c in (0.7, 0.4)}
    changed |= {f"blur {s}": gaussian_filter(wide, (0, s, s, 0)) for s in blurs}
    changed |= {
        f"noise {sd}": wide + sd * rng.normal(size=wide.shape) for sd in (8, 25)
    }
    changed |= {"inversion": 255 - wide}
    changed |= {f"crop {share}": crop(images, share, rng) for share in (0.8, 0.5)}
    return {k: np.rint(v).clip(0, 255).astype(np.uint8) for k, v in changed.items()}


def crop(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut out squares of a share of the side, and enlarge them again."""
    side, cropped = images.shape[1], []
    kept = int(side * share)
    for image in images[..., 0]:
        top, left = rng.integers(0, side - kept + 1, 2)
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

    def measure(features: Features) -> np.ndarray:
        away = [np.linalg.norm((features[1] - mean) @ root, axis=1) for mean in means]
        return np.min(away, axis=0)

    return measure


def neighbors(train: np.ndarray) -> Distance:
    """Measure the distance from the k-th neighbor (Sun et al., ICML 2022)."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    found = NearestNeighbors(n_neighbors=NEIGHBORS).fit(unit(train))
    return lambda features: found.kneighbors(unit(features[1]))[0][:, -1]


def show(
    size: int, own: "jaxmed.data.Dataset", external: dict[str, np.ndarray], blurs
) -> None:
    """Print a table: AUROC against the own test images, and the share flagged."""
    model = jaxmed.create_model("efficientnet_lite0", num_classes=2)
    jaxmed_convert.initialize(model, "imagenet")
    prepare = preprocessing_of(model, size)

    def compute(split: Split) -> Features:
        layers = compute_layer_means(model, split, preprocessing=prepare)
        return layers, compute_features(model, split, preprocessing=prepare)

    rows = np.sort(np.random.default_rng(0).permutation(len(own.train))[:TRAIN])
    some = np.sort(np.random.default_rng(1).permutation(len(own.test))[:CHANGED])
    train, val, test = own.train.take(rows), own.val, own.test
    sets = external | change(np.asarray(test.images[some]), blurs)
    fitted, of_val, of_test = (compute(split) for split in (train, val, test))
    head = LogisticRegression(C=0.1, max_iter=3000)
    scale = StandardScaler().fit(fitted[1])
    head.fit(scale.transform(fitted[1]), train.labels)

    def energy(features: Features) -> np.ndarray:
        logit = head.decision_function(scale.transform(features[1])) / 2
        return -logsumexp([logit, -logit], axis=0)

    detector = fit_features(fitted[0], layer_widths(model, prepare), of_val[0])
    distances: dict[str, Distance] = {
        "layers": lambda features: detector.measure(features[0]),
        "pooled": pooled_mahalanobis(fitted[1], train.labels),
        "neighbors": neighbors(fitted[1]),
        "energy": energy,
    }
    limits = {k: np.quantile(f(of_val), QUANTILE) for k, f in distances.items()}
    print(f"\n{own.source}, {size} pixels: AUROC (share flagged)")
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
    chest = jaxmed.load_dataset(f"folder:{folder}/chest_xray", image_size=224)
    mnist = f"npz:{folder}/medmnist"
    pneumonia = jaxmed.load_dataset(f"{mnist}/pneumoniamnist_reassembled.npz")
    breast = jaxmed.load_dataset(f"{mnist}/breastmnist.npz")
    ultrasound = np.concatenate([breast.val.images, breast.test.images])
    xrays = np.asarray(chest.test.images)
    sets = {"PneumoniaMNIST": pneumonia.test.images, "BreastMNIST": ultrasound}
    show(224, chest, sets, (1, 3))
    sets = {"X-rays at 28": shrink(xrays, 28), "X-rays at 224": xrays}
    show(112, pneumonia, sets | {"BreastMNIST": ultrasound}, (0.5, 1))


if __name__ == "__main__":
    main()
