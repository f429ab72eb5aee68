"""Advice: each cell of the table, the lines between them, and strategies that exist."""

import pytest
from flax import nnx

from jaxmed.advisor.advice import TITLES
from jaxmed.advisor.advisor import FEW, HEAVY, advise
from jaxmed.advisor.rules import FROM_SCRATCH, TABLE
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
    return advise(**given | changes)


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
    assert advice.strategy == strategy
    assert [other.strategy for other in advice.alternatives] == beside
    assert advice.select == "val_auroc"


def test_only_a_large_and_different_set_is_compared_with_scratch():
    for (size, domain), advice in TABLE.items():
        fresh = [other.arm for other in advice.alternatives if not other.pretrained]
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
    assert advice.strategy == "full"
    assert advice.alternatives == ()
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
    assert "has 0 training images" in said
    assert "has 0 validation images" in said


def test_few_validation_images_of_a_class_choose_by_the_loss():
    assert ask(smallest_val_class=FEW).select == "val_auroc"
    advice = ask(smallest_val_class=1)
    assert advice.select == "val_loss"
    assert "1 validation image:" in texts(advice.cautions)
    assert ask(smallest_val_class=FEW - 1, pretrained=False).select == "val_loss"


def test_a_heavy_backbone_on_other_images_is_compared_with_a_lighter_one():
    assert "lighter" in texts(ask(domain="different", parameters=HEAVY + 1).cautions)
    assert "lighter" not in texts(ask(domain="different", parameters=HEAVY).cautions)
    assert "lighter" not in texts(ask(parameters=HEAVY + 1).cautions)


@pytest.mark.parametrize(("cell", "advice"), CELLS)
def test_what_is_advised_exists_and_its_sources_are_known(cell, advice):
    model = create_model("resnet10_narrow", num_classes=2)
    for one in (advice, *advice.alternatives):
        assert create_strategy(one.strategy, model, **one.options).name == one.strategy
    for reason in (*advice.reasons, *advice.cautions):
        assert not reason.source or reason.source in TITLES
    arms = [other.arm for other in advice.alternatives]
    assert len({"advised", *arms}) == len(arms) + 1


def test_every_family_has_the_stages_that_the_rates_are_for():
    rates = max(
        len(other.options.get("rates", ()))
        for _, advice in CELLS
        for other in advice.alternatives
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
