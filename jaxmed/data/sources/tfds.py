"""`tfds:NAME`: data sets that tensorflow-datasets has prepared as ArrayRecord files.

They are read with `as_data_source`, for which TensorFlow need not be installed. Most
of the builders need it to prepare them, so that is done once, where it is:

    tfds build malaria --file_format=array_record

The files are looked for in $TFDS_DATA_DIR or ~/tensorflow_datasets, as it does.
"""

import os
from typing import Any

import numpy as np

from jaxmed.data.dataset import SPLITS, SourceImages, Split, name_task, number_ids
from jaxmed.data.images.decode import decode
from jaxmed.data.images.load import load_images
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions
from jaxmed.data.splits.splitting import check_given
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.progress import progress

SPLIT_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def load_tfds(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `tfds:NAME`.

    Image and label are the data set's supervised keys, or else its only image and its
    only class label. Ids are numbers in the order of the files.

    Args:
        rest: the name, such as "malaria", "NAME/CONFIG" or "NAME:VERSION".
        options: see `LoadOptions`; images are all kept in memory, and nothing in the
            cache folder.

    Raises:
        InputError: tensorflow-datasets is not installed, there is no such data set,
            it is not prepared, or not images with one class label each.
    """
    where = f"tfds:{rest}"
    builder = _find_builder(rest)
    image, label = _find_keys(builder.info, where)
    names = {
        SPLIT_NAMES[name]: name for name in builder.info.splits if name in SPLIT_NAMES
    }
    if not names:
        raise InputError(
            f"{where} has no split called train, validation or test; its splits are "
            f"{', '.join(builder.info.splits)}."
        )
    check_given(where, names, options.splitting)
    encoded: dict[str, bytes] = {}
    labels: dict[str, list[int]] = {}
    ids: dict[str, tuple[str, ...]] = {}
    for split in filter(names.get, SPLITS):
        examples = _read(builder, names[split], image, f"{where}, {split}")
        if not examples:
            continue
        ids[split] = number_ids(split, len(examples))
        labels[split] = [int(example[label]) for example in examples]
        contents = (example[image] for example in examples)
        encoded.update(zip(ids[split], contents, strict=True))

    size, reading = options.image_size, options.reading

    def load(name: str) -> np.ndarray:
        return decode(encoded[name], size, reading.resizing)

    skipped: dict[str, str] = {}
    images = load_images(
        ids,
        load,
        where=where,
        image_size=size,
        resizing=reading.resizing,
        skipped=skipped if reading.skips else None,
    )
    splits = {}
    for split, group in ids.items():
        rows = [i for i, name in enumerate(group) if name not in skipped]
        splits[split] = Split(
            images=images[split],
            labels=np.array(labels[split], np.int32)[rows],
            ids=tuple(group[i] for i in rows),
        )
    class_names = tuple(builder.info.features[label].names)
    return SourceImages(
        name=builder.name,
        source=where,
        task=name_task(class_names),
        class_names=class_names,
        splits=splits,
        skipped=skipped,
    )


def _find_builder(name: str) -> Any:
    try:
        import tensorflow_datasets
    except ModuleNotFoundError as error:
        raise InputError(
            "For tfds: the package tensorflow-datasets is needed, without TensorFlow: "
            f"pip install 'jaxmed[tfds]' ({error})."
        ) from error
    if not name:
        raise InputError("'tfds:' needs the name of a data set, as in 'tfds:malaria'.")
    folder = os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tensorflow_datasets.builder(name, data_dir=folder)
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        if not name.isidentifier():
            raise InputError(
                f"tfds:{name}: there is no such data set, or not in this configuration "
                "or version."
            ) from error
        # The community's are listed with TensorFlow alone.
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise unknown("data set of tensorflow-datasets", name, known) from error
    except (AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"tfds:{name} cannot be used: {reason}") from error
    if not builder.is_prepared():
        raise _unprepared(name, f"is not prepared in {builder.data_dir}")
    return builder


def _unprepared(name: str, problem: str) -> InputError:
    return InputError(
        f"tfds:{name} {problem}. Run `tfds build {name} --file_format=array_record` "
        "where TensorFlow is installed, and put the folder there, or where "
        "$TFDS_DATA_DIR says."
    )


def _find_keys(info: Any, where: str) -> tuple[str, str]:
    """Returns the names of the image and of its label."""
    from tensorflow_datasets import features

    by_key = dict(info.features)
    images = [key for key, feature in by_key.items() if type(feature) is features.Image]
    labels = [
        key for key, feature in by_key.items() if type(feature) is features.ClassLabel
    ]
    pair = info.supervised_keys
    if pair and len(pair) == 2 and pair[0] in images and pair[1] in labels:
        return pair
    if len(images) != 1 or len(labels) != 1:
        has = ", ".join(
            f"{key} ({type(by_key[key]).__name__})" for key in sorted(by_key)
        )
        raise InputError(
            f"{where} must have one image and one class label in each example; it has "
            f"{has}."
        )
    return images[0], labels[0]


def _read(builder: Any, split: str, image: str, where: str) -> list[dict[str, Any]]:
    """Reads the examples of a split, the images still encoded."""
    from tensorflow_datasets import decode

    try:
        source = builder.as_data_source(split, decoders={image: decode.SkipDecoding()})
    except NotImplementedError as error:
        raise _unprepared(builder.name, "is prepared, but as TFRecord files") from error
    with progress(f"Reading {where}", len(source), unit="images") as advance:
        examples = []
        for i in range(len(source)):
            examples.append(source[i])
            advance(1)
    return examples
