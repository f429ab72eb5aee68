"""Averages of weights against torch's and NumPy's, chosen as scikit-learn would."""

import numpy as np
import pytest
import torch
from fixtures.torch_twin import Twin
from flax import nnx
from sklearn.metrics import roc_auc_score
from torch.optim.swa_utils import AveragedModel

from jaxmed.errors import InputError
from jaxmed.inference.forward import predict_split
from jaxmed.models.parameters import load, split
from jaxmed.training.model_selection import uniform_soup, wise_ft
from jaxmed_convert import to_torch


def weights(model):
    parts = split(model)
    return {p: np.asarray(a) for p, a in (parts.params | parts.stats).items()}


def drawn(model, seed):
    """A copy with other weights, of a size that predictions depend on."""
    rng, copy = np.random.default_rng(seed), nnx.clone(model)
    load(copy, {p: (a + rng.normal(0, 0.5, a.shape) ** 2).astype(np.float32)
                for p, a in weights(model).items()})  # fmt: skip
    return copy


def test_a_uniform_soup_is_torchs_average(new_tiny):
    models = [drawn(new_tiny(), seed) for seed in range(3)]
    twins = [Twin(3) for _ in models]
    for twin, model in zip(twins, models, strict=True):
        twin.load_state_dict(to_torch(model))
    average = AveragedModel(twins[0], use_buffers=True)
    for twin in twins:
        average.update_parameters(twin)
    found = to_torch(uniform_soup(models))
    for name, tensor in average.module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[name], tensor)
    with pytest.raises(InputError, match="they differ in head"):
        uniform_soup([new_tiny(), new_tiny(5)])
    with pytest.raises(InputError, match="at least one model"):
        uniform_soup([])


def test_wise_ft_takes_the_best_share_on_val(new_tiny, quarters):
    start, end = drawn(new_tiny(), 0), drawn(new_tiny(), 1)
    shares, scores = (0.0, 0.25, 0.5, 0.75, 1.0), {}
    first, last = weights(start), weights(end)
    for share in shares:
        blend = nnx.clone(end)
        load(blend, {p: (1 - share) * first[p] + share * last[p] for p in last})
        probs = predict_split(blend, quarters, "val").probs
        scores[share] = roc_auc_score(quarters.val.labels, probs, multi_class="ovr")
    rows = wise_ft(end, start, quarters, shares=shares)
    assert {row["share"]: row["val_auroc"] for row in rows} == pytest.approx(scores)
    best = max(shares, key=lambda share: (scores[share], share))
    assert rows[0]["share"] == best
    for path, array in weights(end).items():
        expected = (1 - best) * first[path] + best * last[path]
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"shares must be numbers in \[0, 1\]"):
        wise_ft(end, start, quarters, shares=(2.0,))
