# %% [markdown]
# # VGG16 and MobileNetV2 for Keras users
#
# Keras' guide to transfer learning sets `base.trainable = False`, trains a new head,
# sets it to `True` and goes on at 1e-5. This tutorial says the same in jaxmed, with the
# two networks of the guide's examples.
#
# | Keras | jaxmed |
# |---|---|
# | `VGG16(include_top=False, pooling="avg")` | `create_model("vgg16", pool="average")` |
# | `base.trainable = False` and `base(x, training=False)` | strategy `"frozen"` |
# | `Dense(256, "relu")`, `Dropout(0.5)`, `Dense(1, "sigmoid")` | `head="hidden"`, `dropout=0.5`, `num_classes=1` |
# | `base.trainable = True`, `compile(Adam(1e-5))` | the second phase of `"two_phase"` |
# | `fine_tune_at = 100` of MobileNetV2 | `"partial"` with `layers=36` |

# %%
import os

import jaxmed
import jaxmed_convert
from jaxmed.strategies import create_strategy

FULL = os.environ.get("JAXMED_TUTORIALS") == "full"
source, size = ("folder:chest_xray", 224) if FULL else ("cells:folder", 64)
data = jaxmed.load_dataset(source, image_size=size)

# %% [markdown]
# ## The networks
# A single logit is Keras' `Dense(1, "sigmoid")`; the sigmoid is in the loss. Weights of
# torchvision's VGG16 and MobileNetV2 are converted on first use. Here, without a network,
# both stay random unless `JAXMED_TUTORIALS=full`.

# %%
head = {"num_classes": 1, "head": "hidden", "hidden_features": 256, "dropout": 0.5}
vgg = jaxmed.create_model("vgg16", pool="average", **head)
mobile = jaxmed.create_model("mobilenet_v2", **head)
if FULL:
    for model in (vgg, mobile):
        jaxmed_convert.initialize(model, "imagenet")

# %% [markdown]
# ## What is trained
# The guide's `fine_tune_at = 100` counts Keras' layers, with those that have no
# parameters. From there on, MobileNetV2 has 36 layers with parameters.

# %%
fine_tuned = create_strategy("partial", mobile, layers=36)
for group in fine_tuned.phases[0].groups:
    print(group.name, group.patterns[:3], "...")

# %% [markdown]
# ## Two phases
# Everything that Keras does with `trainable` and `compile` is in the strategy. A frozen
# BatchNorm never sees batch statistics, in either phase where it is frozen.

# %%
small = {} if FULL else {"train_images": 40}
data = jaxmed.load_dataset(source, image_size=size, **small)
strategy = create_strategy(
    "two_phase", mobile, head_epochs=2, epochs=3 if FULL else 1, learning_rate=1e-5
)
result = jaxmed.fit(mobile, data, strategy, batch_size=20)
for row in result.history:
    print(row["phase"], row["epoch"], round(row["val_loss"], 3))
