"""A complete PyTorch program, as tutorials end: the other one of `whole_run.py`.

What `torch_program.py` does, and then the best epoch's weights, a threshold chosen on
val, metrics, Grad-CAM maps, and figures, for one seed after the other.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path

import matplotlib
import torch
from program_arguments import program_parser
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    classification_report,
    roc_auc_score,
    roc_curve,
)
from torch import nn
from torch.utils.data import DataLoader
from torch_program import MEAN, STD, Scans, freeze, predict
from torchvision import models, transforms

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        scores = [run(arguments, seed, Path(folder)) for seed in range(arguments.seeds)]
    arguments.out.write_text(json.dumps({"test_auroc": scores}))


def run(arguments: argparse.Namespace, seed: int, folder: Path) -> float:
    torch.manual_seed(seed)
    transform = transforms.Compose(
        [
            transforms.Resize((arguments.size, arguments.size)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def loader(split, *, shuffle=False, count=0):
        return DataLoader(
            Scans(arguments.data, split, transform, count),
            batch_size=32,
            shuffle=shuffle,
            num_workers=arguments.workers,
            persistent_workers=arguments.workers > 0,
        )

    train = loader("train", shuffle=True, count=arguments.images)
    val, test = loader("val"), loader("test")
    model = models.resnet18(num_classes=2)
    start = torch.load(arguments.weights, weights_only=True)
    start = {name: tensor for name, tensor in start.items() if name[:3] != "fc."}
    model.load_state_dict(start, strict=False)
    history, best = fit(model, train, val, arguments)
    model.load_state_dict(best)
    torch.save(best, folder / "best.pth")

    # The threshold of Youden's index on val, and the metrics with it.
    truth, probs = predict(model, val)
    false, true, thresholds = roc_curve(truth, probs)
    threshold = thresholds[(true - false).argmax()]
    truth, probs = predict(model, test)
    print(classification_report(truth, probs >= threshold))
    draw(history, truth, probs, threshold, folder)
    for number in range(arguments.maps):
        draw_map(model, test.dataset[number][0], folder / f"map_{number}.png")
    return float(roc_auc_score(truth, probs))


def fit(model, train, val, arguments) -> tuple[list[dict], dict]:
    trained = freeze(model, arguments.task)
    parameters = [p for module in trained for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=arguments.learning_rate)
    criterion, history, best, highest = nn.CrossEntropyLoss(), [], {}, -1.0
    for _ in range(arguments.epochs):
        model.eval()
        for module in trained:
            module.train()
        total = 0.0
        for images, labels in train:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        row = {"loss": total / len(train.dataset)}
        row["val_auroc"] = roc_auc_score(*predict(model, val))
        history.append(row)
        print(row, flush=True)
        if row["val_auroc"] > highest:
            highest, best = row["val_auroc"], copy.deepcopy(model.state_dict())
    return history, best


def draw(history, truth, probs, threshold, folder: Path) -> None:
    """Draws training curves, ROC and precision-recall curves, and counts."""
    for key in ("loss", "val_auroc"):
        plt.figure()
        plt.plot([row[key] for row in history])
        plt.title(key)
        plt.savefig(folder / f"{key}.png")
    for name, display in (("roc", RocCurveDisplay), ("pr", PrecisionRecallDisplay)):
        display.from_predictions(truth, probs)
        plt.savefig(folder / f"{name}.png")
    ConfusionMatrixDisplay.from_predictions(truth, probs >= threshold)
    plt.savefig(folder / "confusion.png")
    plt.close("all")


def draw_map(model: nn.Module, image: torch.Tensor, path: Path) -> None:
    """Draws the Grad-CAM map of the last stage over an image."""
    kept = []

    def keep(module, inputs, output):
        output.requires_grad_()
        output.retain_grad()
        kept.append(output)

    hook = model.layer4.register_forward_hook(keep)
    logits = model(image[None])
    logits[0, logits[0].argmax()].backward()
    hook.remove()
    (maps,) = kept
    cam = torch.relu((maps.grad.mean((2, 3), keepdim=True) * maps).sum(1)).detach()
    cam = nn.functional.interpolate(cam[None], image.shape[1:], mode="bilinear")[0, 0]
    shown = image.permute(1, 2, 0) * torch.tensor(STD) + torch.tensor(MEAN)
    plt.figure()
    plt.imshow(shown.clip(0, 1))
    plt.imshow(cam, cmap="jet", alpha=0.4)
    plt.axis("off")
    plt.savefig(path)
    plt.close()


def parse() -> argparse.Namespace:
    parser = program_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--maps", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
