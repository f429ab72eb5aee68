# %% [markdown]
# # A chest X-ray study, from class weights to export
#
# The last tutorial is a whole study: unequal classes, a learning-rate schedule, AUROC,
# Youden's threshold, Grad-CAM, and a file to deploy. In jaxmed it is a recipe and one
# command; here are its parts in Python.
#
# By default it takes two minutes, with drawn cells of two classes;
# `JAXMED_TUTORIALS=full` expects `chest_xray/{train,val,test}/CLASS` beside you.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import jaxmed
import jaxmed_convert
from jaxmed.strategies import create_strategy
from jaxmed.training import balanced_weights

FULL = os.environ.get("JAXMED_TUTORIALS") == "full"
source, size = ("folder:chest_xray", 224) if FULL else ("cells:folder", 96)
backbone = "resnet50" if FULL else "efficientnet_lite0"
data = jaxmed.load_dataset(source, image_size=size)

# %% [markdown]
# ## Unequal classes
# Three in four of the X-rays show pneumonia. Weights of the classes in the loss, or
# balanced sampling, make both count alike. Use one of them: both together correct twice.

# %%
weights = balanced_weights(data.train.labels, data.class_names)
print(dict(zip(data.class_names, weights, strict=True)))

# %% [markdown]
# ## Training
# OneCycle (Smith and Topin 2019) with torch's defaults, on the head of a frozen network.

# %%
from jaxmed.training.loss import Loss

model = jaxmed.create_model(backbone, num_classes=2)
jaxmed_convert.initialize(model, "imagenet")
strategy = create_strategy(
    "frozen", model, epochs=15, learning_rate=5e-3, optimizer="adamw",
    weight_decay=1e-2, schedule="one_cycle",
)  # fmt: skip
result = jaxmed.fit(
    model, data, strategy, batch_size=16, loss=Loss(class_weights=weights)
)
rates = [row["lr_head"] for row in result.history]
figure, axis = plt.subplots(figsize=(5, 2.5))
axis.plot(range(1, len(rates) + 1), rates, marker="o")
axis.set(xlabel="epoch", ylabel="learning rate")

# %% [markdown]
# ## AUROC and Youden's threshold

# %%
val, test = (jaxmed.predict_split(model, data, name) for name in ("val", "test"))
report = jaxmed.evaluate(val, test, resamples=500)
for part, metric in (("test", "auroc"), ("test_at_threshold", "sensitivity"),
                     ("test_at_threshold", "specificity")):  # fmt: skip
    value = report[part][metric]
    interval = f"[{value['ci_low']:.2f}, {value['ci_high']:.2f}]"
    print(f"{metric:12} {value['value']:.2f} {interval}")

# %% [markdown]
# ## What did it look at?
# Grad-CAM of the predicted class, for four test images. A map shows where the evidence
# is, not why; the report measures how faithful maps are, too.

# %%
predictor = jaxmed.make_predictor(model, data, report)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6))
rows = predictor.predict(data.test.images[:4], cams=True)
for axis, row in zip(axes, rows, strict=True):
    axis.imshow(row.image)
    axis.imshow(row.cam, cmap="inferno", alpha=0.45)
    axis.set_title(row.decision, fontsize=8)
    axis.axis("off")

# %% [markdown]
# ## Export
# StableHLO needs nothing beyond JAX; `onnx` and `torch` need those extras. The file holds
# preprocessing and calibration, and is checked against the model before it is kept.

# %%
folder = Path(tempfile.mkdtemp())
jaxmed.export.export_model(predictor, ["stablehlo", "safetensors"], folder)
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# The same study with seeds, arms, a report and a model card is
# `jaxmed run chest_xray_pneumonia --data.source folder:chest_xray`.
