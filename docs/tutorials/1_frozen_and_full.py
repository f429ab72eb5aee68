# %% [markdown]
# # Blood cells: frozen against full
#
# The first question of transfer learning: is it enough to train a new head on the
# features of a pretrained network, or should the whole network be trained? In PyTorch
# this tutorial is a ResNet-18 on BloodMNIST, a loop over epochs, and a comparison of
# two accuracies. Here it is two calls of `fit`, and a comparison that says whether the
# difference is more than chance.
#
# By default the tutorial takes two minutes on two cores, with cells that jaxmed draws
# and a small network whose ImageNet weights come with the extra `lite`. With
# `JAXMED_TUTORIALS=full` it is the original: BloodMNIST at 224 pixels and ResNet-18.

# %%
import os

import matplotlib.pyplot as plt

import jaxmed
import jaxmed_convert
from jaxmed.evaluation import paired_difference
from jaxmed.strategies import create_strategy

FULL = os.environ.get("JAXMED_TUTORIALS") == "full"
source, size = ("medmnist:bloodmnist", 224) if FULL else ("cells", 64)
backbone = "resnet18" if FULL else "efficientnet_lite0"

# %% [markdown]
# ## Data
# `load_dataset` returns train, val and test with labels and class names. Images stay
# uint8; scaling and normalization happen on the device, as the network wants them.

# %%
data = jaxmed.load_dataset(source, image_size=size)
for name in ("train", "val", "test"):
    print(name, getattr(data, name).images.shape)
figure, axes = plt.subplots(1, 7, figsize=(11, 2))
for axis, label in zip(axes, range(7), strict=True):
    index = (data.train.labels == label).argmax()
    axis.imshow(data.train.images[index])
    axis.set_title(data.class_names[label], fontsize=7)
    axis.axis("off")

# %% [markdown]
# ## Two strategies
# A frozen backbone is really frozen: its BatchNorm statistics stay, too. As its features
# never change, they are computed once, and an epoch of the head takes no time.
#
# Everything is trained with `batch_norm="eval"` on the few drawn cells: twenty steps are
# too few for running statistics to follow the images (EfficientNet-Lite moves them by one
# percent a step), and validation would then normalize by statistics of neither data set.


# %%
def train(strategy, **options):
    model = jaxmed.create_model(backbone, num_classes=len(data.class_names), seed=0)
    jaxmed_convert.initialize(model, "imagenet")
    strategy = create_strategy(strategy, model, **options)
    return model, jaxmed.fit(model, data, strategy, batch_size=32)


statistics = "trained" if FULL else "eval"
head, head_result = train("frozen", epochs=10, learning_rate=3e-3)
whole, whole_result = train("full", epochs=4, learning_rate=3e-4, batch_norm=statistics)

# %%
figure, axis = plt.subplots(figsize=(6, 3))
for name, result in (("frozen", head_result), ("full", whole_result)):
    accuracy = [row["val_accuracy"] for row in result.history]
    axis.plot(range(1, len(accuracy) + 1), accuracy, marker="o", label=name)
axis.set(xlabel="epoch", ylabel="validation accuracy")
axis.legend()

# %% [markdown]
# ## Which is better?
# The test images decide nothing: the best epoch was chosen on validation. Each number
# has a 95 % interval over the test images, and the difference is paired, image by image.

# %%
test = {
    "frozen": jaxmed.predict_split(head, data, "test"),
    "full": jaxmed.predict_split(whole, data, "test"),
}
for name, model in (("frozen", head), ("full", whole)):
    val = jaxmed.predict_split(model, data, "val")
    report = jaxmed.evaluate(val, test[name], resamples=500)
    for metric in ("auroc", "accuracy"):
        value = report["test"][metric]
        interval = f"[{value['ci_low']:.3f}, {value['ci_high']:.3f}]"
        print(f"{name:7} {metric:9} {value['value']:.3f} {interval}")
difference = paired_difference([test["full"]], [test["frozen"]], "accuracy")
ends = (difference[key] for key in ("value", "ci_low", "ci_high"))
print("accuracy, full - frozen: {:+.3f} [{:+.3f}, {:+.3f}]".format(*ends))

# %% [markdown]
# With one training of each arm, the interval is about these two models. To say something
# about the two strategies, train each with several seeds: that is a recipe,
# `jaxmed run bloodmnist_frozen_vs_full`, whose report has the interval of another
# training as well.
