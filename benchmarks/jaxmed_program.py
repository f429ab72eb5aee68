"""The same task as `torch_program.py`, through jaxmed: the other program compared."""

import argparse
import json

from program_arguments import program_parser
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

import jaxmed
import jaxmed_convert


def main() -> None:
    arguments = parse()
    data = jaxmed.load_dataset(
        f"npz:{arguments.data}",
        image_size=arguments.size,
        train_images=arguments.images,
    )
    model = jaxmed.create_model("resnet18", num_classes=2)
    jaxmed_convert.from_torch(model, load_file(arguments.weights))
    result: dict = {"epochs": [], "images": len(data.train)}
    if arguments.task == "predict":
        auroc(model, data, "train")
    else:
        fitted = jaxmed.fit(
            model,
            data,
            make_strategy(model, arguments),
            batch_size=arguments.batch_size,
        )
        keys = ("train_loss", "val_auroc", "seconds")
        result["epochs"] = [{key: row[key] for key in keys} for row in fitted.history]
    result["test_auroc"] = auroc(model, data, "test")
    arguments.out.write_text(json.dumps(result))


def make_strategy(model, arguments):
    """Makes what the tutorials train: all at one rate, and the last epoch kept."""
    from jaxmed.strategies import create_strategy

    rates = {"learning_rate": arguments.learning_rate}
    if arguments.task == "partial":
        rates["head_learning_rate"] = arguments.learning_rate
    return create_strategy(
        arguments.task,
        model,
        epochs=arguments.epochs,
        optimizer="adam",
        restore_best=False,
        **rates,
    )


def auroc(model, data, split: str) -> float:
    predictions = jaxmed.predict_split(model, data, split)
    return float(roc_auc_score(predictions.labels, predictions.probs[:, 1]))


def parse() -> argparse.Namespace:
    tasks = ("frozen", "partial", "full", "predict")
    parser = program_parser(__doc__, tasks)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
