"""Whatever a user gets wrong is one sentence and exit code 2; nothing is written."""

from pathlib import Path

import numpy as np
import pytest

from jaxmed.experiments.__main__ import main

RECIPE = """
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[arms.full]
train.strategy = "full"
train.options = {{ epochs = 1 }}
[arms.frozen]
train.strategy = "frozen"
"""


def arrays(count: int = 6) -> dict[str, np.ndarray]:
    made = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = np.zeros((count, 28, 28), np.uint8)
        made[f"{split}_labels"] = (np.arange(count) % 3)[:, None]
    return made


@pytest.fixture
def recipe(tmp_path) -> Path:
    np.savez(tmp_path / "data.npz", **arrays())
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.format(data=tmp_path / "data.npz"))
    return path


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Runs a command line that must fail, and returns the sentence."""
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))

    def check(*words: object) -> str:
        code = main(["run", *map(str, words), "--out", str(tmp_path / "out")])
        captured = capsys.readouterr()
        assert code == 2
        # Reading a file shows progress, a line each.
        *before, sentence = captured.err.splitlines()
        assert all(line.startswith("Checking ") for line in before)
        assert sentence.startswith("Error: ")
        assert "Traceback" not in captured.err
        assert not (tmp_path / "out").exists()
        return sentence

    return check


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--arms", "ful"), "Did you mean 'full'?"),
        (("--arms", ","), "--arms needs at least one name"),
        (("--data.source", "cellz"), "Unknown data source 'cellz'"),
        (("--data.source", "medmnist:bloodmist"), "Did you mean 'bloodmnist'?"),
        (("--data.source", "npz:nowhere.npz"), "nowhere.npz does not exist"),
        (("--data.source", "folder:nowhere"), "The folder nowhere does not exist"),
        (("--data.train-images", "-1"), "must be at least 0, got -1"),
        (("--data.train-images", "2"), "must be at least 3, one for each class"),
        (("--data.train-images", "7"), "must be from 1 to 6, the training images"),
        (("--data.split", "patient"), "does not say which images are of one patient"),
        (("--data.resize", "squish"), "Did you mean 'squash'?"),
        (("--data.resize-factor", "1.2"), "Set data.resize to crop, or leave"),
        (("--data.resize", "crop", "--data.resize-factor", "0.5"), "at least 1"),
        (("--evaluate.tta", "flips"), "Did you mean 'flip'?"),
        (("--evaluate.tta", "five_crop"), "Resize by crop, or take flip."),
        (("--data.folds", "5"), "Set split to stratified or patient."),
        (("--model.backbone", "resnet81"), "Did you mean 'resnet18'?"),
        (("--model.weights", "imagnet"), "Did you mean 'imagenet'?"),
        (("--model.single-logit", "yes"), "must be true or false, got 'yes'"),
        (("--model.single-logit", "1"), "must be true or false, got 1"),
        (("--model.single-logit", "true"), "binary tasks, and npz:"),
        (("--model.dropout", "true"), "must be a number, got True"),
        (("--model.pool", "max"), "must be one of own, average, class_and"),
        (("--model.weights", "IMAGENET1K_V3"), "Did you mean 'IMAGENET1K_V"),
        (("--model.mean", "0.5,0.5"), "a number for each channel, of which"),
        (("--model.mean", "0.5,124,0.5"), "each of model.mean must be at most 1"),
        (("--model.std", "1,0,1"), "each of model.std must be at least 0.001"),
        (("--model.std", "half"), "each of model.std must be a number, got 'half'"),
        (("--model.weights", "file:nowhere.pth"), "nowhere.pth"),
        (("--model.weights", "run:nowhere"), "there is no run there"),
        (("--model.weights", "run:"), "a path must follow 'run:'"),
        (("--train.strategy", "frosen"), "Did you mean 'frozen'?"),
        (("--train.strategy", "nowhere:function"), "No module named 'nowhere'"),
        (("--train.options.epoch", "1"), "Did you mean 'epochs'?"),
        (("--explain.layer", "layer5"), "Unknown layer 'layer5'. Did you mean 'layer"),
        (("--explain.method", "gradcam"), "must be one of grad_cam, grad_cam++"),
        (
            ("--train.options.epochs", "1.5"),
            "Option 'epochs' of strategy 'full' must be a whole number, got 1.5.",
        ),
        (("--train.options.epochs", "0"), "epochs must be at least 1, got 0"),
        (("--train.options.learning-rate", "-1"), "must be at least 0, got -1"),
        (("--train.options.learning-rate", "fast"), "must be a number, got 'fast'"),
        (("--train.options.optimizer", "adamm"), "Did you mean 'adam'?"),
        (("--train.batch-size", "many"), "must be a whole number, got 'many'"),
        (("--train.batch-size", "0"), "must be at least 1, got 0"),
        (("--train.loss", "focall"), "Did you mean 'focal'?"),
        (("--train.label-smoothing", "1"), "must be below 1, got 1"),
        (("--train.focal-gamma", "1"), "Set train.loss to focal"),
        (("--train.sampling", "even"), "must be one of shuffle, balanced"),
        (("--train.mixup", "1", "--train.batch-size", "1"), "Use larger batches."),
        (("--evaluate.threshold", "roc"), "must be one of youden, sensitivity"),
        (("--evaluate.calibration", "platt"), "not for a multiclass one. Use temper"),
        (("--evaluate.prevalence", "0.1"), "A prevalence is for binary tasks"),
        (("--train.bach-size", "1"), "Did you mean --train.batch-size?"),
        # What TOML can write, and no setting can be.
        (("--train.options.learning-rate", "inf"), "must be a finite number, got inf"),
        (("--train.options.learning-rate", "-inf"), "a finite number, got -inf"),
        (("--train.options.learning-rate", "nan"), "must be a finite number, got nan"),
        (
            ("--train.options.learning-rate", "1" + 400 * "0"),
            "learning_rate must be a whole",
        ),
        (("--train.options.epochs", "1" + 30 * "0"), "at most 2,147,483,647, got 1000"),
        (("--train.options.epochs", "2020-01-31"), "got datetime.date(2020, 1, 31)"),
        (
            ("--train.options.schedule", "{ gamma = nan }"),
            "schedule.gamma must be a fi",
        ),
        (
            ("--train.options.schedule", "12:30:00"),
            "a list or a table, got datetime.ti",
        ),
        (("--train.ema", "nan"), "train.ema must be a finite number, got nan"),
        (("--train.mixup", "inf"), "train.mixup must be a finite number, got inf"),
        (("--train.cache-memory", "inf"), "cache_memory must be a finite number"),
        (
            ("--train.batch-size", "1" + 30 * "0"),
            "batch_size must be a whole number of",
        ),
        (("--train.seeds", "0,nan"), "each of train.seeds must be a whole number"),
        (("--data.memory", "inf"), "data.memory must be a finite number, got inf"),
        (("--evaluate.cost", "inf"), "evaluate.cost must be a finite number, got inf"),
        (("--model.std", "nan,1,1"), "each of model.std must be a finite number"),
        # What the shapes of the second arm tell.
        (
            ("--arms.frozen.model.backbone", "vgg11", "--data.image-size", "28"),
            "Arm frozen: A VGG needs images of at least 32×32 pixels, got 28×28.",
        ),
        (("--train.batch-size", "5"), "Arm full: Phase 'all' trains BatchNorm layers."),
        (("--model.keep-head", "true"), "model.keep_head is for the weights of a run"),
        (("--model.stem", "sum"), "model.stem is sum, which is for pretrained RGB"),
        (("--nonsense",), "Unrecognized arguments: --nonsense"),
    ],
)
def test_bad_flags(recipe, refused, flags, expected):
    assert expected in refused(recipe, *flags)


@pytest.mark.parametrize(
    "select", ["val_auroc", "val_auprc", "val_balanced_accuracy", "val_mcc"]
)
def test_a_metric_that_validation_cannot_have(recipe, refused, select):
    np.savez(
        recipe.parent / "data.npz", **arrays() | {"val_labels": np.zeros((6, 1), int)}
    )
    loss = ("--train.select", "val_loss")
    said = refused(recipe, *loss, "--arms.frozen.train.select", select)
    which = "select goes by, is not defined on the validation split: it has no image of"
    assert f"Arm frozen: {select}, which {which} 1, 2 and no image but of 0." in said
    watch = f'{{ name = "plateau", watch = "{select}" }}'
    flags = (*loss, "--arms.frozen.train.options.schedule", watch)
    if select == "val_auroc":
        assert "the schedule of a plateau goes by" in refused(recipe, *flags)


def test_weights_without_the_classifier_that_the_model_needs(
    recipe, refused, monkeypatch
):
    monkeypatch.setattr("jaxmed.models.backbones.vgg.WIDTHS", (4, 4, 4, 4, 8))
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 8)
    flags = ("--model.backbone", "vgg16", "--model.weights", "IMAGENET1K_FEATURES")
    assert 'in a recipe, model.pool = "average"' in refused(recipe, *flags)


def test_unknown_recipe(refused):
    assert "Did you mean 'quickstart'?" in refused("quickstrt")


def test_no_recipe_at_all(refused):
    assert "NAME_OR_TOML" in refused()


def test_no_command_and_unknown_command(capsys):
    assert main([]) == 2
    assert main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("image_size = 32", "image_sise = 32", "Did you mean 'image_size'?"),
        ("image_size = 32", "image_size = 'big'", "got 'big'"),
        ("image_size = 32", "image_size = 1", "must be at least 8, got 1"),
        ("[data]", "[data", "is not valid TOML"),
        ("[model]", "[modle]", "Did you mean 'model'?"),
    ],
)
def test_bad_recipes(recipe, refused, old, new, expected):
    recipe.write_text(recipe.read_text().replace(old, new, 1))
    assert expected in refused(recipe)


def test_a_mistake_in_a_late_arm_is_found_before_the_first_is_trained(recipe, refused):
    text = recipe.read_text()
    recipe.write_text(text + "train.options = { learning_rate = 1e-3, epoch = 2 }\n")
    said = refused(recipe)
    assert "Arm frozen: " in said
    assert "Did you mean 'epochs'?" in said


def test_truncated_npz(recipe, refused, tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(path.read_bytes()[:-200])
    assert "data.npz is not an npz file, or is cut off" in refused(recipe)


def test_labels_outside_the_classes(recipe, refused, tmp_path):
    made = arrays()
    made["val_labels"][2] = 3
    np.savez(tmp_path / "data.npz", **made)
    assert "val/000002 is 3, outside the 3 classes 0 to 2" in refused(recipe)


def test_empty_split(recipe, refused, tmp_path):
    made = arrays()
    made |= {"test_images": made["test_images"][:0], "test_labels": np.zeros((0, 1))}
    np.savez(tmp_path / "data.npz", **made)
    assert "the split is empty" in refused(recipe)


def test_a_class_that_val_lacks_cannot_choose_the_epoch(recipe, refused, tmp_path):
    made = arrays()
    made["val_labels"] %= 2
    np.savez(tmp_path / "data.npz", **made)
    assert "no image of 2. Go by val_loss or val_accuracy" in refused(recipe)


def test_wrong_checksum(recipe, refused, tmp_path):
    pytest.importorskip("medmnist", reason="medmnist knows the checksums")
    np.savez(tmp_path / "made.npz", **arrays())
    folder = tmp_path / "cache" / "medmnist"
    folder.mkdir(parents=True)
    (tmp_path / "made.npz").rename(folder / "breastmnist.npz")
    said = refused(recipe, "--data.source", "medmnist:breastmnist")
    assert "breastmnist.npz" in said
    assert "MD5" in said


def test_checkpoint_of_another_architecture(recipe, refused, tmp_path):
    import torch
    import torchvision

    path = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.resnet34().state_dict(), path)
    flags = ("--model.backbone", "resnet18", "--model.weights", f"file:{path}")
    assert "layer1.2.conv1.weight" in refused(recipe, *flags)


@pytest.mark.parametrize("place", ["out", "out/mine", "out/mine/frozen"])
def test_output_that_is_a_file(recipe, tmp_path, capsys, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("kept")
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert f"{path} is a file." in capsys.readouterr().err
    assert path.read_text() == "kept"


def test_output_folder_that_holds_something_else(recipe, tmp_path, capsys):
    folder = tmp_path / "out" / "mine" / "frozen" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert "holds something else than a run" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["thesis.txt"]


def test_output_folder_of_another_experiment(recipe, tmp_path, capsys):
    folder = tmp_path / "out" / "mine" / "full" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('name = "yours"\n[arms.full]\n')
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "name is 'yours' there and 'mine' here" in said
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["config.toml"]


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_report_of_what_is_no_experiment(tmp_path, capsys, what):
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
    assert main(["report", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err
