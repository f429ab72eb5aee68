# %% [markdown]
# # Pneumonia in two phases
#
# The second tutorial trains the head first and then everything at a small rate, so that
# the random head's large gradients do not spoil pretrained layers. It goes on to what a
# clinical reader asks next: at which threshold, and how sure?
#
# By default it takes two minutes, with drawn cells of two classes;
# `JAXMED_TUTORIALS=full` is PneumoniaMNIST at 224 pixels with ResNet-18.

# %%
import os

import matplotlib.pyplot as plt

import jaxmed
import jaxmed_convert
from jaxmed.evaluation import reliability
from jaxmed.strategies import create_strategy

FULL = os.environ.get("JAXMED_TUTORIALS") == "full"
source, size = ("medmnist:pneumoniamnist", 224) if FULL else ("cells:folder", 64)
backbone = "resnet18" if FULL else "efficientnet_lite0"
data = jaxmed.load_dataset(source, image_size=size)
print(data.task, data.class_names, len(data.train.labels), "training images")

# %% [markdown]
# ## Training
# The tutorial's recipe is the strategy `two_phase`; its options are epochs and rates of
# both phases. Each phase starts its own optimizer. What a strategy trains can be read
# before it runs.

# %%
model = jaxmed.create_model(backbone, num_classes=2)
jaxmed_convert.initialize(model, "imagenet")
strategy = create_strategy(
    "two_phase",
    model,
    head_epochs=10,
    epochs=8 if FULL else 3,
    learning_rate=1e-5 if FULL else 1e-4,
    batch_norm="trained" if FULL else "eval",  # few steps, as in the first tutorial
)
for phase in strategy.phases:
    for group in phase.groups:
        rate = group.optimizer.learning_rate
        print(f"{phase.name:5} {phase.epochs:2} epochs  {group.name:5} rate {rate:g}")
result = jaxmed.fit(model, data, strategy, batch_size=32)
print(result.best)

# %% [markdown]
# ## Threshold and calibration
# Both are chosen on validation, and recorded as such. The test images measure what was
# chosen: sensitivity and specificity at that threshold, each with an interval.

# %%
val, test = (jaxmed.predict_split(model, data, name) for name in ("val", "test"))
report = jaxmed.evaluate(val, test, threshold="youden", resamples=500)
print("threshold", round(report["threshold"]["value"], 3), "chosen on",
      report["threshold"]["chosen_on"])  # fmt: skip
for metric in ("sensitivity", "specificity", "ppv", "npv"):
    value = report["test_at_threshold"][metric]
    interval = f"[{value['ci_low']:.2f}, {value['ci_high']:.2f}]"
    print(f"{metric:12} {value['value']:.2f} {interval}")

# %%
bins = reliability(test, bins="equal_mass")
figure, axis = plt.subplots(figsize=(3.5, 3.5))
axis.plot([0, 1], [0, 1], color="gray", linestyle="--")
axis.plot([b["predicted"] for b in bins], [b["observed"]["value"] for b in bins], "o-")
axis.set(xlabel="predicted probability", ylabel="observed share")

# %% [markdown]
# ## A model to use
# The trained network, its preprocessing, threshold and calibration make a predictor. It
# takes files, arrays and folders, and says where an image is unlike those it has seen.

# %%
predictor = jaxmed.make_predictor(model, data, report)
for row in predictor.predict(data.test.images[:4]):
    print(row.decision, row.probs, row.out_of_distribution)
