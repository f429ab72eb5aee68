"""The first convolution of an RGB network for images with other channels."""

import numpy as np

# What one grey channel's weights are, from those of red, green and blue.
GREY = ("mean", "sum")


def adapt_stem(kernel: np.ndarray, channels: int, *, grey: str = "mean") -> np.ndarray:
    """Turns a convolution of RGB images into one of images with other channels.

    Every new channel gets the mean w̄ of the weights of red, green and blue, times a
    scale s. An image x in all n channels then gives n·s·w̄*x, and the RGB network gives
    3·w̄*x for the same image as grey RGB: with s = 3/n the answers, and with them what
    BatchNorm's running statistics and all later layers expect, are the same. That is
    the scale for every n but 1.

    For n = 1 the usual recipe is the mean itself, `w.mean(1)` in torch, and it is the
    default: s = 1, so the answer is a third of the RGB network's. A BatchNorm that is
    trained takes the third out again; one in eval mode, a frozen stem's, does not, and
    VGG's stem may have none. "sum" is s = 3, which keeps the answer.

    Args:
        kernel: float32 (h, w, 3, out).
        channels: of the images, at least 1.
        grey: "mean" or "sum": the scale for one channel.

    Returns:
        float32 (h, w, channels, out); the kernel itself if `channels` is 3.
    """
    assert grey in GREY, grey
    assert kernel.shape[2] == 3, f"a kernel of the shape {kernel.shape} is not for RGB"
    if channels == 3:
        return kernel
    scale = 1 if (channels, grey) == (1, "mean") else 3 / channels
    mean = kernel.mean(axis=2, keepdims=True, dtype=np.float64) * scale
    return np.repeat(mean.astype(np.float32), channels, axis=2)
