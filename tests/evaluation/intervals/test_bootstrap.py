"""What the bootstrap draws."""

from dataclasses import replace

import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.evaluation.intervals import bootstrap as resampling
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units, method_of, units_of
from jaxmed.evaluation.intervals.estimate import estimate
from jaxmed.evaluation.metrics.classification import Decisions


def all_counts(bootstrap, size=10):
    return np.concatenate(list(bootstrap.counts(Units(size))), axis=1)


def test_draws_are_of_the_right_size():
    counts = all_counts(Bootstrap(resamples=300))
    assert counts.shape == (10, 300)
    assert (counts.sum(axis=0) == 10).all()


def test_how_many_are_of_a_class_varies_as_in_other_test_sets(draw):
    """Drawn within classes accuracy, PPV and net benefit would seem far too sure."""
    labels = draw("binary", n=200, classes=2).labels
    counts = all_counts(Bootstrap(resamples=4000), 200)
    share = labels.mean()
    expected = 200 * share * (1 - share)
    assert (labels @ counts).var() == pytest.approx(expected, rel=0.1)


def test_every_image_is_drawn_as_often_as_it_should_be():
    counts = all_counts(Bootstrap(resamples=20_000))
    # Binomial(10, 1/10): mean 1, variance 0.9; 5 standard errors.
    assert np.abs(counts.mean(axis=1) - 1).max() < 5 * np.sqrt(0.9 / 20_000)
    assert counts.var(axis=1) == pytest.approx(np.full(10, 0.9), rel=0.05)


def test_chunks_do_not_change_the_draw(monkeypatch):
    whole = all_counts(Bootstrap(resamples=100, seed=5))
    monkeypatch.setattr(resampling, "LARGEST", 70)
    chunks = list(Bootstrap(resamples=100, seed=5).counts(Units(10)))
    assert len(chunks) == 15
    assert (np.concatenate(chunks, axis=1) == whole).all()


def test_the_seed_decides():
    a, b = (all_counts(Bootstrap(resamples=50, seed=seed)) for seed in (0, 1))
    assert (a == all_counts(Bootstrap(resamples=50, seed=0))).all()
    assert (a != b).any()


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"seed": -1}])
def test_refused(wrong):
    with pytest.raises(InputError, match="must be at least"):
        Bootstrap(**wrong)


def test_groups_are_drawn_whole(draw):
    groups = (*tuple("pqr"[i % 3] for i in range(30)), "", "")
    predictions = replace(draw(n=32), groups=groups)
    units = units_of(predictions)
    counts = np.concatenate(list(Bootstrap(resamples=200).counts(units)), axis=1)
    for name in "pqr":
        of_group = counts[np.array(groups) == name]
        assert (of_group == of_group[0]).all()
    # Images of unknown groups are drawn on their own.
    assert (counts[30] != counts[31]).any()
    assert units.size == 5
    assert units.noun == "patients"
    assert "over groups" in method_of(units)


def test_groups_of_one_image_are_images(draw):
    plain = draw(n=10)
    single = replace(plain, groups=(*tuple("abcdefghi"), ""))
    assert units_of(single).cluster is None
    assert units_of(single) == units_of(plain) == Units(10)
    assert "over images" in method_of(units_of(single))


def test_units_add_up_their_images():
    units = Units(3, np.array([0, 2, 2, 1, 0]))
    members = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [1, 0]], bool)
    assert units.sums(members).tolist() == [[2, 0], [0, 0], [1, 0]]
    assert units.having(members).tolist() == [2, 0]
    assert units.of(np.array([1, 3])).having(members[[1, 2]]).tolist() == [1, 0]
    assert (Units(5).sums(members) == members).all()


def test_groups_widen_the_interval_of_alike_images(draw):
    """Ten copies of every image tell no more than one."""
    one = draw("binary", n=60, classes=2)
    copies = np.tile(np.arange(60), 10)
    many = replace(
        one,
        ids=tuple(map(str, range(600))),
        labels=one.labels[copies],
        probs=one.probs[copies],
    )
    grouped = replace(many, groups=tuple(map(str, copies)))
    widths = {}
    for name, predictions in {"one": one, "many": many, "grouped": grouped}.items():
        units, measure = units_of(predictions), Decisions(predictions)
        found = estimate([measure], units, Bootstrap(resamples=1000))[("accuracy",)]
        widths[name] = found["ci_high"] - found["ci_low"]
        assert found["method"] == (
            "wilson_clustered" if name == "grouped" else "wilson"
        )
    assert widths["grouped"] == pytest.approx(widths["one"], rel=0.1)
    assert widths["many"] < widths["one"] / 2
