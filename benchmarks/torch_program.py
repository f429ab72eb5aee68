"""Fine-tuning as the PyTorch tutorials write it: one of the two programs compared.

A Dataset with torchvision's transforms, a DataLoader, `model.train()`, a loop over
epochs, validation after each, AUROC on the test images at the end.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from program_arguments import program_parser
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Scans(Dataset):
    """A split of a MedMNIST file, as RGB pictures."""

    def __init__(self, path: Path, split: str, transform, count: int = 0):
        with np.load(path) as arrays:
            self.images = arrays[f"{split}_images"][: count or None]
            self.labels = arrays[f"{split}_labels"][: count or None, 0].astype(np.int64)
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        picture = Image.fromarray(self.images[index]).convert("RGB")
        return self.transform(picture), self.labels[index]


def main() -> None:
    arguments = parse()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
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
            batch_size=arguments.batch_size,
            shuffle=shuffle,
            num_workers=arguments.workers,
            persistent_workers=arguments.workers > 0,
        )

    train = loader("train", shuffle=True, count=arguments.images)
    val, test = loader("val"), loader("test")
    model = models.resnet18(num_classes=2)
    model.load_state_dict(torch.load(arguments.weights, weights_only=True))
    model.to(device)
    trained = freeze(model, arguments.task)
    criterion = nn.CrossEntropyLoss()
    result: dict = {"epochs": [], "images": len(train.dataset)}
    if trained:
        parameters = [p for module in trained for p in module.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=arguments.learning_rate)
        for _ in range(arguments.epochs):
            started = time.perf_counter()
            # Frozen layers compute as they will when the model is used.
            model.eval()
            for module in trained:
                module.train()
            total = 0.0
            for images, labels in train:
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                loss = criterion(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
            row = {"train_loss": total / len(train.dataset)}
            row["val_auroc"] = auroc(model, val, device)
            row["seconds"] = time.perf_counter() - started
            result["epochs"].append(row)
            print(row, flush=True)
    else:
        auroc(model, train, device)
    result["test_auroc"] = auroc(model, test, device)
    arguments.out.write_text(json.dumps(result))


def freeze(model: nn.Module, task: str) -> list[nn.Module]:
    """Freezes what the task does not train, and returns the rest."""
    trained = {
        "frozen": [model.fc],
        "partial": [model.layer4, model.fc],
        "full": [model],
        "predict": [],
    }[task]
    for parameter in model.parameters():
        parameter.requires_grad = False
    for module in trained:
        for parameter in module.parameters():
            parameter.requires_grad = True
    return trained


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels, and probabilities of class 1."""
    model.eval()
    probs, truth = [], []
    for images, labels in loader:
        probs.append(model(images.to(device)).softmax(1)[:, 1].cpu())
        truth.append(labels)
    return torch.cat(truth).numpy(), torch.cat(probs).numpy()


def auroc(model: nn.Module, loader: DataLoader, device: str) -> float:
    return float(roc_auc_score(*predict(model, loader, device)))


def parse() -> argparse.Namespace:
    tasks = ("frozen", "partial", "full", "predict")
    parser = program_parser(__doc__, tasks)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
