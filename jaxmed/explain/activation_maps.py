"""Class-activation maps: formulas of a layer's map A and the score's gradient G by it.

All as in pytorch-grad-cam, whose small constants keep 0/0 away. A and G are float32
(n, h, w, c), and so is the result: what each channel contributes. Contributions are
summed over the channels, or those of the "eigen" methods projected by `principal_maps`,
and not yet cut off at zero or scaled.
"""

import jax
import jax.numpy as jnp
import numpy as np

_SPACE = (1, 2)


def grad_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Weighs each channel by its mean gradient.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", ICCV 2017, eq. 1 and 2.
    """
    return activations * gradients.mean(axis=_SPACE, keepdims=True)


def grad_cam_plus_plus(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Weighs each channel by its positive gradients, those of small areas more.

    Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep
    Convolutional Networks", WACV 2018, eq. 7 and 19.
    """
    squares = gradients**2
    sums = activations.sum(axis=_SPACE, keepdims=True)
    alphas = squares / (2 * squares + sums * squares * gradients + 1e-6)
    alphas = jnp.where(gradients != 0, alphas, 0)
    weights = (jax.nn.relu(gradients) * alphas).sum(axis=_SPACE, keepdims=True)
    return activations * weights


def hires_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Multiplies element by element.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", arXiv 2011.08891, eq. 2. For a linear layer behind
    an average, the map's sum is the logit without its bias.
    """
    return gradients * activations


def xgrad_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Weighs each channel by its mean gradient, weighed by where the channel is active.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of
    CNNs", BMVC 2020, eq. 8.
    """
    sums = activations.sum(axis=_SPACE, keepdims=True)
    weights = (gradients * activations / (sums + 1e-7)).sum(axis=_SPACE, keepdims=True)
    return activations * weights


def layer_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Multiplies element by element where the gradient is positive.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for
    Localization", IEEE TIP 2021, eq. 5 and 6.
    """
    return jax.nn.relu(gradients) * activations


def eigen_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Gives the map itself, whatever the class.

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components",
    IJCNN 2020.
    """
    del gradients
    return activations


def eigen_grad_cam(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """Gives `hires_cam`'s products, channel by channel; pytorch-grad-cam's own."""
    return gradients * activations


def principal_maps(maps: np.ndarray) -> np.ndarray:
    """Projects the channels (n, h, w, c) on their first principal component: (n, h, w).

    The channels are centered over space. A component's sign is arbitrary: this one is
    LAPACK's, by way of NumPy on every device, as in pytorch-grad-cam.
    """
    projections = []
    for image in np.asarray(maps):
        pixels = image.reshape(-1, image.shape[-1])
        pixels = pixels - pixels.mean(axis=0)
        # The components' own matrix must be square for LAPACK to take the same path.
        components = np.linalg.svd(pixels, full_matrices=True)[2]
        projections.append((pixels @ components[0]).reshape(image.shape[:2]))
    return np.stack(projections).astype(np.float32)
