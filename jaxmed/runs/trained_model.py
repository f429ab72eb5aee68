"""A trained model with all that using it takes, read from a folder and written to one.

The folder is a run's, or the part of one that `write_trained_model` writes:
config.toml, environment.json, metrics.json, checkpoints/ and out_of_distribution.npz.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.schema import EvaluateConfig, ExplainConfig, ModelConfig
from jaxmed.config.sections import build_section
from jaxmed.errors import InputError
from jaxmed.runs.detector import (
    OutOfDistributionDetector,
    read_detector,
    write_detector,
)
from jaxmed.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    METRICS,
    OUT_OF_DISTRIBUTION,
    check_writable,
    seed_of,
    write_config,
)
from jaxmed.runtime.files import atomic_folder, read_json, write_json
from jaxmed.runtime.locks import holder_of
from jaxmed.runtime.toml import read_toml

if TYPE_CHECKING:
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.evaluation.calibration import Scaling
    from jaxmed.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A trained model with all that using it takes.

    Attributes:
        model: with the weights of the best epoch, in the precision that it was trained
            in and with BatchNorm in eval mode.
        preprocessing: uint8 images to the model's input.
        metrics: the report of `jaxmed.evaluate`, as metrics.json has it.
        environment: the content of environment.json: versions, data, preprocessing.
        views: test-time augmentation by its name in `jaxmed.data.transforms.test_time`.
        detector: gives out-of-distribution scores; None for none.
        method, layer: of saliency maps, see `jaxmed.explain.explain`.
        name: of the experiment, or of the folder.
        folder: of the run; None if the model was trained in Python.
        members: of an ensemble all its models, whose probabilities are averaged;
            `model` and `detector` are those of the first.
    """

    model: "Classifier"
    preprocessing: "Preprocessing"
    metrics: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    views: str = "none"
    detector: OutOfDistributionDetector | None = field(default=None, repr=False)
    method: str = "grad_cam"
    layer: str | None = None
    name: str = "model"
    folder: Path | None = None
    members: tuple["TrainedModel", ...] = field(default=(), repr=False)

    @property
    def networks(self) -> tuple["TrainedModel", ...]:
        """The models whose probabilities are averaged: this one, or the members."""
        return self.members or (self,)

    @property
    def task(self) -> str:
        """See `jaxmed.data.dataset.Task`."""
        return self.metrics["task"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return tuple(self.metrics["class_names"])

    @cached_property
    def scaling(self) -> "Scaling | None":
        """The calibration, fitted on val; None if that was not possible."""
        from jaxmed.evaluation.calibration import read_scaling

        return read_scaling(self.metrics["calibration"])

    @cached_property
    def thresholds(self) -> dict[str, float | None]:
        """Thresholds by class, of probabilities before calibration, chosen on val.

        Of the positive class alone in a binary task; None where there is none.
        """
        value = self.metrics["threshold"]["value"]
        if self.task == "binary":
            return {self.class_names[1]: value}
        return {name: value[name] for name in self.class_names}

    @cached_property
    def image_shape(self) -> tuple[int, int]:
        """Height and width that images had in training before `preprocessing`."""
        height, width = self.environment["data"]["image_shape"][:2]
        return int(height), int(width)

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Of "data", starting "weights" and "predictions"; None if not known."""
        return {
            "data": self.environment["data"]["fingerprint"],
            "weights": self.environment.get("weights", {}).get("fingerprint"),
            "predictions": self.metrics.get("fingerprint"),
        }

    @property
    def best(self) -> dict[str, Any]:
        """The epoch of the weights: "phase", "epoch", "metric", "value"; or empty."""
        return dict(self.environment.get("best") or {})

    @cached_property
    def config(self) -> ModelConfig:
        """The model's architecture, as [model] of a recipe has it."""
        model, head = self.model, self.model.head
        # Of a head that has neither, the defaults.
        settings: dict[str, Any] = {}
        if head.hidden is not None:
            settings["hidden_features"] = head.hidden.out_features
        if head.kind != "linear":
            settings["dropout"] = head.dropout.rate
        return ModelConfig(
            backbone=model.architecture,
            in_channels=model.in_channels,
            head=head.kind,
            single_logit=head.out.out_features < len(self.class_names),
            pool=model.pool,
            mean=tuple(model.mean),
            std=tuple(model.std),
            **settings,
        )


def read_trained_model(folder: Path) -> TrainedModel:
    """Read the model of a finished run, or one that `write_trained_model` wrote.

    Args:
        folder: of the run, such as runs/quickstart/frozen/seed-0.

    Raises:
        InputError: there is no finished run, or its files are damaged.
    """
    folder = Path(folder)
    _check_folder(folder)
    metrics, environment = read_json(folder / METRICS), read_json(folder / ENVIRONMENT)
    table, detector = read_toml(folder / CONFIG), folder / OUT_OF_DISTRIBUTION

    def section(schema: Any, name: str) -> Any:
        return build_section(schema, table.get(name, {}), str(folder / CONFIG), (name,))

    preprocessing = _read_preprocessing(folder, environment)
    explain: ExplainConfig = section(ExplainConfig, "explain")
    evaluate: EvaluateConfig = section(EvaluateConfig, "evaluate")
    try:
        trained = TrainedModel(
            model=_read_model(
                folder,
                section(ModelConfig, "model"),
                table.get("train", {}),
                len(metrics["class_names"]),
                environment["precision"],
                preprocessing,
            ),
            preprocessing=preprocessing,
            metrics=metrics,
            environment=environment,
            views=evaluate.tta,
            detector=read_detector(detector) if detector.is_file() else None,
            method=explain.method,
            layer=explain.layer or None,
            name=table.get("name", folder.name),
            folder=folder,
        )
        # Computed once, and now: what is missing is found here.
        for name in ("task", "scaling", "thresholds", "image_shape", "fingerprints"):
            getattr(trained, name)
        return trained
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder}: {METRICS} and {ENVIRONMENT} are not as a run writes them "
            f"({error!r}). Restore them, or delete {METRICS} and run again."
        ) from error


def write_trained_model(folder: Path, trained: TrainedModel) -> None:
    """Write the files that `read_trained_model` reads, all or none.

    Args:
        folder: a new one.
        trained: the model; weights are kept bit for bit.

    Raises:
        InputError: the folder exists or cannot be written, or the model is not as
            `jaxmed.create_model` builds it.
    """
    from jaxmed.checkpoints.checkpoint import save_weights
    from jaxmed.models.parameters import split

    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists. Give a new folder, or delete that one.")
    check_writable(folder, "Give another folder.")
    arrays = split(trained.model)
    weights = arrays.params | arrays.stats
    _check_built(trained, weights)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder.absolute()) as unfinished:
        unfinished.mkdir()
        config = {
            "name": trained.name,
            "model": asdict(trained.config),
            "evaluate": {"tta": trained.views},
            "explain": {"method": trained.method, "layer": trained.layer or ""},
        }
        write_config(unfinished, config)
        write_json(unfinished / ENVIRONMENT, trained.environment)
        write_json(unfinished / METRICS, trained.metrics)
        if trained.detector is not None:
            write_detector(unfinished / OUT_OF_DISTRIBUTION, trained.detector)
        save_weights(unfinished / CHECKPOINTS, weights, trained.best)


def check_trained(folder: Path) -> None:
    """Check that a run got as far as its model can be used.

    Of what `run` writes, this takes what can be shared: no file that names images.

    Raises:
        InputError: it did not, or a file is missing that is always there then.
    """
    if not (folder / METRICS).is_file():
        if holder := holder_of(folder):
            raise InputError(
                f"The run {folder} is not finished: {holder} works on it. Wait for it."
            )
        raise InputError(
            f"The run {folder} is not finished: it has no {METRICS}. `run "
            f"{folder / CONFIG}`, with the same --out, goes on with it."
        )
    for name in (CONFIG, ENVIRONMENT, CHECKPOINTS):
        if not (folder / name).exists():
            raise InputError(
                f"The run {folder} lacks {name}, which using its model takes. Copy it "
                "too, or run again."
            )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"There is no run folder {folder}.")
    if not (folder / CONFIG).is_file():
        below = [
            p.parent
            for p in sorted(folder.glob(f"**/{CONFIG}"))
            if seed_of(p.parent) is not None
        ]
        hint = f" Did you mean {below[0]}?" if below else ""
        raise InputError(f"{folder} is no run: there is no {CONFIG} in it.{hint}")
    check_trained(folder)


def _check_built(trained: TrainedModel, weights: Mapping[str, Any]) -> None:
    """Check that `create_model` builds a model with these weights' names and shapes."""
    from flax import nnx

    from jaxmed.models.parameters import dotted
    from jaxmed.models.registry import create_model

    arguments = trained.config.arguments(len(trained.class_names))
    state = nnx.state(nnx.eval_shape(lambda: create_model(**arguments)))
    built = {dotted(path): leaf.shape for path, leaf in nnx.to_flat_state(state)}
    differing = sorted(built.keys() ^ weights.keys()) or [
        path for path, shape in built.items() if shape != weights[path].shape
    ]
    if differing:
        raise InputError(
            f"The model cannot be saved: create_model builds a "
            f"{trained.model.architecture} for {len(trained.class_names)} classes "
            f"otherwise, such as {differing[0]}. Save a model that create_model built."
        )


def _read_preprocessing(
    folder: Path, environment: Mapping[str, Any]
) -> "Preprocessing":
    from jaxmed.data.images.resizing import Resizing
    from jaxmed.data.images.window import read_window
    from jaxmed.data.transforms.preprocess import Preprocessing

    try:
        stored = environment["preprocessing"]
        return Preprocessing(
            image_size=stored["image_size"],
            channels=stored["channels"],
            mean=tuple(stored["mean"]),
            std=tuple(stored["std"]),
            resizing=Resizing(**stored["resizing"]),
            window=read_window(stored["window"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{folder / ENVIRONMENT} does not say how the run prepared its images "
            f"({error!r}). Restore it, or run again."
        ) from error


def _read_model(
    folder: Path,
    config: ModelConfig,
    train: Mapping[str, Any],
    class_count: int,
    precision: str,
    preprocessing: "Preprocessing",
) -> "Classifier":
    from jaxmed.checkpoints.checkpoint import load_best_weights
    from jaxmed.models.layers.normalization import set_training_norms
    from jaxmed.models.parameters import load, split
    from jaxmed.models.precision import set_precision
    from jaxmed.models.registry import create_model
    from jaxmed.strategies import create_strategy
    from jaxmed.strategies.adapter import add_adapter, merge_adapter

    model = create_model(**config.arguments(class_count))
    arrays, _ = load_best_weights(folder / CHECKPOINTS)
    expected = split(model)
    if (
        train.get("strategy")
        and arrays.keys() > expected.params.keys() | expected.stats.keys()
    ):
        # Of a strategy that adds parameters.
        options = train.get("options", {})
        strategy = create_strategy(train["strategy"], model, **options)
        add_adapter(model, strategy.adapter)
    try:
        load(model, arrays)
    except ValueError as error:
        raise InputError(
            f"The checkpoints of {folder} are not of the model that its {CONFIG} "
            f"describes. {error}"
        ) from error
    model.mean, model.std = preprocessing.mean, preprocessing.std
    set_precision(model, precision)
    set_training_norms(model, ())
    merge_adapter(model)
    return model
