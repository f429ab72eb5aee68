"""The first convolution of an RGB network for images with other channels."""

import numpy as np

# What the weights of a single channel are, from those of red, green and blue.
STEMS = ("sum", "mean")


def adapt_stem(kernel: np.ndarray, channels: int, *, stem: str = "sum") -> np.ndarray:
    """Turns a convolution of RGB images into one of images with other channels.

    Every new channel gets the mean w̄ of the weights of red, green and blue, times a
    scale s. An image x in all n channels then gives n·s·w̄*x, and the RGB network gives
    3·w̄*x for the same image as gray RGB: with s = 3/n the answers, and with them what
    BatchNorm's running statistics and all later layers expect, are the same. That is
    the default for every n; for n = 1 it is the sum over RGB, as timm has it.

    For n = 1 the usual recipe in torch is the mean itself, `w.mean(1)`: s = 1, so the
    answer is a third of the RGB network's. A BatchNorm that is trained takes the third
    out again; one in eval mode, a frozen stem's, does not.

    Args:
        kernel: float32 (h, w, 3, out).
        channels: of the images, at least 1.
        stem: "sum" or "mean": the scale for one channel.

    Returns:
        float32 (h, w, channels, out); the kernel itself if `channels` is 3.
    """
    assert stem in STEMS, stem
    assert kernel.shape[2] == 3, f"a kernel of the shape {kernel.shape} is not for RGB"
    if channels == 3:
        return kernel
    scale = 1 if (channels, stem) == (1, "mean") else 3 / channels
    mean = kernel.mean(axis=2, keepdims=True, dtype=np.float64) * scale
    return np.repeat(mean.astype(np.float32), channels, axis=2)
