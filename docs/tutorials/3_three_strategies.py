# %% [markdown]
# # Chest X-rays: three strategies
#
# Feature extraction, training the last stages, and a learning rate for each stage:
# the third tutorial compares them on chest X-rays with a ResNet-50. Below, each is one
# line; what changes between them is only which parameters are in which group.
#
# By default it takes two minutes, with drawn cells of two classes;
# `JAXMED_TUTORIALS=full` expects `chest_xray/{train,val,test}/CLASS` beside you.

# %%
import os

import jaxmed
import jaxmed_convert
from jaxmed.strategies import create_strategy

FULL = os.environ.get("JAXMED_TUTORIALS") == "full"
source, size = ("folder:chest_xray", 224) if FULL else ("cells:folder", 64)
backbone = "resnet50" if FULL else "efficientnet_lite0"
data = jaxmed.load_dataset(source, image_size=size)

# %% [markdown]
# ## Groups of parameters
# Stages have torchvision's names. Parameters in no group are frozen, with their
# BatchNorm statistics; the optimizer does not even know them.

# %%
STRATEGIES = {
    "feature extraction": ("frozen", {"epochs": 10, "learning_rate": 3e-3}),
    "last stage": ("partial", {"stages": 1, "epochs": 4, "learning_rate": 1e-4}),
    "a rate per stage": ("discriminative", {"rates": (1e-4, 3e-4, 3e-3), "epochs": 4}),
}
model = jaxmed.create_model(backbone, num_classes=2)
for title, (name, options) in STRATEGIES.items():
    (phase,) = create_strategy(name, model, **options).phases
    print(title, {g.name: g.optimizer.learning_rate for g in phase.groups})

# %% [markdown]
# ## Training and results
# Activations of frozen layers are computed once and shared: the log says from which
# stage on each epoch begins.

# %%
reports = {}
for title, (name, options) in STRATEGIES.items():
    model = jaxmed.create_model(backbone, num_classes=2)
    jaxmed_convert.initialize(model, "imagenet")
    strategy = create_strategy(name, model, batch_norm="eval", **options)
    jaxmed.fit(model, data, strategy, batch_size=32)
    val, test = (jaxmed.predict_split(model, data, part) for part in ("val", "test"))
    reports[title] = jaxmed.evaluate(val, test, resamples=500)

for title, report in reports.items():
    auroc = report["test"]["auroc"]
    print(
        f"{title:18} {auroc['value']:.3f} [{auroc['ci_low']:.3f}, {auroc['ci_high']:.3f}]"
    )

# %% [markdown]
# ## One gray channel
# X-rays have one channel. `in_channels=1` gives the stem one, from the pretrained
# kernels: their sum over the colors, which is what the network computes on a gray image
# repeated three times.

# %%
gray = jaxmed.create_model("resnet18", num_classes=2, in_channels=1)
print(gray.backbone.conv1.kernel.shape)
