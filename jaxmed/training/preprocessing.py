"""The preprocessing that a model's weights expect."""

from jaxmed.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier

# Mean and deviation of every channel where torchvision's weights were not trained on
# images normalised by ImageNet's.
OTHER_SCALES = {"efficientnet_v2_l": (0.5, 0.5)}


def preprocessing_of(model: Classifier, image_size: int) -> Preprocessing:
    """Returns what `fit` and `predict_split` do with images unless told otherwise.

    RGB is normalised as for torchvision's weights of the architecture; a single grey
    channel by the mean and deviation of red.

    Args:
        model: decides the channels and the normalisation.
        image_size: pixels of a side.

    Raises:
        InputError: the model has another number of channels than 1 or 3.
    """
    channels = model.in_channels
    if channels not in (1, 3):
        raise InputError(
            f"The model takes {channels} channels, and data sets have 1 or 3. "
            "Build it with in_channels=1 or 3."
        )
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if model.architecture in OTHER_SCALES:
        mean, std = ((number,) * 3 for number in OTHER_SCALES[model.architecture])
    return Preprocessing(
        image_size=image_size,
        channels=channels,
        mean=mean[:channels],
        std=std[:channels],
    )
