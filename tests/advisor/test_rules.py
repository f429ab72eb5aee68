"""Advice: each cell of the table, the lines between them, and strategies that exist."""

import pytest
from flax import nnx

from jaxmed.advisor.rules import (
    CAUTIONS,
    FEW,
    FROM_SCRATCH,
    HEAVY,
    SOURCES,
    TABLE,
    Facts,
    advise,
)
from jaxmed.errors import InputError
from jaxmed.models.registry import FAMILIES, create_model
from jaxmed.strategies import create_strategy

CELLS = [*TABLE.items(), (("any", "from scratch"), FROM_SCRATCH)]


def ask(**changes):
    given = {
        "images": 5_000,
        "smallest_class": 2_000,
        "imbalance": 1.5,
        "smallest_val_class": 100,
        "domain": "similar",
        "pretrained": True,
        "parameters": 11_000_000,
    }
    return advise(Facts(**given | changes))


def texts(reasons):
    return " ".join(reason.text for reason in reasons)


LP_FT = "linear_probe_then_finetune"


@pytest.mark.parametrize(
    ("images", "domain", "strategy", "beside"),
    [
        (1, "similar", "frozen", ["partial"]),
        (999, "similar", "frozen", ["partial"]),
        (999, "different", "frozen", ["partial", "two_phase"]),
        (1_000, "similar", "two_phase", ["partial", "frozen"]),
        (50_000, "similar", "two_phase", ["partial", "frozen"]),
        (1_000, "different", "backbone_and_head", ["discriminative", LP_FT]),
        (50_000, "different", "backbone_and_head", ["discriminative", LP_FT]),
        (50_001, "similar", "full", ["two_phase"]),
        (50_001, "different", "full", ["full", "two_phase"]),
    ],
)
def test_each_cell_of_the_table(images, domain, strategy, beside):
    advice = ask(images=images, domain=domain)
    assert advice.start.strategy == strategy
    assert [arm.strategy for arm in advice.compare_with] == beside
    assert advice.select == "val_auroc"


def test_only_a_large_and_different_set_is_compared_with_scratch():
    for (size, domain), advice in TABLE.items():
        fresh = [arm.name for arm in advice.compare_with if not arm.pretrained]
        assert fresh == (
            ["scratch"] if (size, domain) == ("large", "different") else []
        )


def test_few_images_that_differ_are_cautioned_strongly():
    similar, different = (
        ask(images=500, domain=domain) for domain in ("similar", "different")
    )
    assert "learn them by heart" in texts(similar.cautions)
    assert "learn them by heart" in texts(different.cautions)
    assert "hardest case" in texts(different.cautions)
    assert "hardest case" not in texts(similar.cautions)


@pytest.mark.parametrize("images", [10, 10_000, 100_000])
@pytest.mark.parametrize("domain", ["similar", "different"])
def test_random_weights_have_nothing_to_keep(images, domain):
    advice = ask(images=images, domain=domain, pretrained=False)
    assert advice.start.strategy == "full"
    assert advice.compare_with == ()
    assert "random" in texts(advice.reasons)


@pytest.mark.parametrize(
    ("imbalance", "weights", "precision"),
    [(2.9, False, False), (3, False, True), (9.9, False, True), (10, True, True)],
)
def test_balance(imbalance, weights, precision):
    said = texts(ask(imbalance=imbalance).cautions)
    assert ("class weights" in said) == weights
    assert ("AUPRC" in said) == precision


def test_a_class_without_images():
    advice = ask(smallest_class=0, imbalance=float("inf"), smallest_val_class=0)
    said = texts(advice.cautions)
    assert "Training images of the rarest class: 0." in said
    assert "Validation images of the rarest class: 0." in said


def test_few_validation_images_of_a_class_choose_by_the_loss():
    assert ask(smallest_val_class=FEW).select == "val_auroc"
    advice = ask(smallest_val_class=1)
    assert advice.select == "val_loss"
    assert "Validation images of the rarest class: 1." in texts(advice.cautions)
    assert ask(smallest_val_class=FEW - 1, pretrained=False).select == "val_loss"


def test_a_heavy_backbone_on_other_images_is_compared_with_a_lighter_one():
    assert "lighter" in texts(ask(domain="different", parameters=HEAVY + 1).cautions)
    assert "lighter" not in texts(ask(domain="different", parameters=HEAVY).cautions)
    assert "lighter" not in texts(ask(parameters=HEAVY + 1).cautions)


@pytest.mark.parametrize(("cell", "advice"), CELLS)
def test_what_is_advised_exists_and_its_sources_are_known(cell, advice):
    model = create_model("resnet10_narrow", num_classes=2)
    arms = (advice.start, *advice.compare_with)
    for arm in arms:
        assert create_strategy(arm.strategy, model, **arm.options).name == arm.strategy
    assert all(arm.why for arm in advice.compare_with)
    for reason in (*advice.reasons, *advice.cautions):
        assert not reason.source or reason.source in SOURCES
    names = {"advised", *(arm.name for arm in advice.compare_with)}
    assert len(names) == len(arms)


def test_every_source_is_cited():
    reasons = [reason for _, reason in CAUTIONS]
    for _, advice in CELLS:
        reasons += [*advice.reasons, *advice.cautions]
    assert {reason.source for reason in reasons} - {""} == SOURCES.keys()


def test_every_family_has_the_stages_that_the_rates_are_for():
    rates = max(
        len(arm.options.get("rates", ()))
        for _, advice in CELLS
        for arm in advice.compare_with
    )
    assert rates == 5
    for family in FAMILIES:
        model = nnx.eval_shape(lambda name=family[0]: create_model(name, num_classes=2))
        assert len(model.stages) >= rates, family[0]


def test_bad_input_is_a_sentence():
    with pytest.raises(InputError, match="Did you mean 'similar'"):
        ask(domain="similiar")
    with pytest.raises(InputError, match="images must be at least 1, got 0"):
        ask(images=0)
