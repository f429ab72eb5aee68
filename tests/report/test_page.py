"""Tests of what the page does in a real browser: sliders, filters, maps, printing."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmed.report import build_report, read_run

TYPED = """(panel, threshold) => {
    const field = panel.querySelector("input[type=number]");
    field.value = threshold;
    field.dispatchEvent(new Event("input"));
    const shown = [...panel.querySelectorAll("data[data-show]")];
    return Object.fromEntries(shown.map((one) => [one.dataset.show, one.value]));
}"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, binary_folder, multiclass_folder, write_experiment):
    """An experiment of each task, the last with ties and labels that are not known."""
    several = tmp_path_factory.mktemp("several")
    options = {"classes": 3, "tied": True, "missing": True}
    write_experiment(several / "main" / "seed-0", "multilabel", **options)
    tied = tmp_path_factory.mktemp("tied")
    write_experiment(tied / "main" / "seed-0", "binary", classes=2, tied=True)
    blind = tmp_path_factory.mktemp("blind")
    write_experiment(blind / "main" / "seed-0", "binary", classes=2)
    path = blind / "main" / "seed-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["threshold"] |= {"value": None, "reason": "no image is of this class"}
    path.write_text(json.dumps(metrics))
    return {
        "blind": blind,
        "binary": binary_folder,
        "multiclass": multiclass_folder,
        "multilabel": several,
        "tied": tied,
    }


@pytest.fixture
def open_page(browser, folders):
    """Opens a report; at the end nothing may have been complained about."""
    pages, trouble = [], []

    def open_report(name: str):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        path: Path = folders[name] / "report.html"
        if not path.exists():
            build_report(folders[name], title=name)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.close()
    assert trouble == []


@pytest.mark.parametrize("task", ["binary", "tied", "multiclass", "multilabel"])
def test_slider_says_what_scikit_learn_says(open_page, folders, task, oracle):
    page = open_page(task)
    panels = page.query_selector_all(".explorer")
    arms = [panel.query_selector(".arm").inner_text() for panel in panels]
    for panel, arm in zip(panels, arms, strict=True):
        seeds = panel.query_selector_all("[data-pick=run] option")
        for number, option in enumerate(seeds):
            panel.query_selector("[data-pick=run]").select_option(
                str(number), force=True
            )
            run = read_run(folders[task] / arm / f"seed-{option.inner_text()}")
            _compare(page, panel, run, oracle)


def _compare(page, panel, run, oracle):
    test = run.predictions["test"]
    names = [test.class_names[1]] if run.task == "binary" else test.class_names
    for number, name in enumerate(names):
        panel.query_selector("[data-pick=class]").select_option(str(number), force=True)
        column = test.class_names.index(name)
        known = test.known[:, column]
        truth, scores = test.truth[known, column], test.probs[known, column]
        chosen = run.metrics["threshold"]["value"]
        chosen = chosen if run.task == "binary" else chosen[name]
        # Scores themselves are ties with the threshold, and 0.4 is one of many.
        for threshold in (chosen, 0.0, 1.0, 1.5, 0.4, 0.5, *scores[:3], scores.max()):
            found = page.evaluate(
                f"([p, t]) => ({TYPED})(p, t)", [panel, repr(float(threshold))]
            )
            for what, value in oracle(truth, scores >= threshold).items():
                if np.isnan(value):
                    assert found[what] == ""
                else:
                    assert float(found[what]) == pytest.approx(value, abs=1e-15)
            for what, value in oracle(truth, scores >= chosen).items():
                if f"val-{what}" in found:
                    assert float(found[f"val-{what}"]) == pytest.approx(value)


def test_the_slider_starts_at_the_chosen_threshold_and_goes_back(open_page, folders):
    page = open_page("binary")
    run = read_run(folders["binary"] / "scratch" / "seed-0")
    stated = run.metrics["test_at_threshold"]["sensitivity"]["value"]
    panel = page.locator(".explorer").first
    shown = panel.locator("[data-show=sensitivity]")
    assert float(shown.get_attribute("value")) == stated
    reset = panel.get_by_role("button")
    assert reset.is_disabled()
    slider = panel.get_by_role("slider")
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert float(slider.input_value()) < run.metrics["threshold"]["value"] - 0.1
    assert float(shown.get_attribute("value")) > stated
    assert "for looking only" in panel.locator(".state").inner_text()
    assert "sensitivity" in slider.get_attribute("aria-valuetext")
    # The line is where the slider is, and the picture tells the same counts.
    line = float(panel.locator(".cut").get_attribute("x1"))
    assert line == pytest.approx(400 * float(slider.input_value()))
    positives = panel.locator("[data-show=tp]").get_attribute("value")
    assert f"TP {positives}" in panel.locator("svg").text_content()
    reset.click()
    assert float(shown.get_attribute("value")) == stated
    assert "the threshold chosen on val" in panel.locator(".state").inner_text()
    # A field that is being emptied is no threshold.
    panel.get_by_role("spinbutton").fill("")
    assert float(shown.get_attribute("value")) == stated


def test_where_val_chose_no_threshold_the_slider_starts_at_a_half(open_page, folders):
    panel = open_page("blind").locator(".explorer")
    test = read_run(folders["blind"] / "main" / "seed-0").predictions["test"]
    positives = int(((test.probs[:, 1] >= 0.5) & (test.labels == 1)).sum())
    assert panel.locator("[data-show=tp]").get_attribute("value") == str(positives)
    assert panel.locator("[data-show=val-ppv]").get_attribute("value") == ""
    assert "no image is of this class" in panel.locator(".state").inner_text()
    assert panel.get_by_role("button").is_disabled()


def test_the_page_says_that_the_test_split_chooses_nothing(open_page):
    text = open_page("multiclass").locator("#thresholds").inner_text()
    assert "For inspection, not for selection." in text
    assert "The threshold was chosen on val." in text


def test_the_gallery_is_filtered_by_kind_class_and_outcome(open_page, folders):
    page = open_page("binary")
    gallery = page.locator("#maps")
    run = read_run(folders["binary"] / "scratch" / "seed-0")
    test, threshold = run.predictions["test"], run.metrics["threshold"]["value"]
    said = test.probs[:8, 1] >= threshold
    missed = int((~said & (test.labels[:8] == 1)).sum())
    arm = gallery.locator(".of-arm").filter(has_text="scratch")
    # First those of the arm with the best validation score.
    assert gallery.locator("output").inner_text() == "8 of 16 shown"
    assert gallery.locator(".arm:visible").inner_text() == "two_phase"
    gallery.get_by_label("Arm").select_option("")
    assert arm.locator(".item:visible").count() == 8
    page.get_by_label("Outcome").select_option("FN")
    assert arm.locator(".item:visible").count() == missed
    page.get_by_label("True class").select_option("normal")
    assert gallery.locator(".item:visible").count() == 0
    assert gallery.locator("output").inner_text() == "0 of 16 shown"
    assert arm.get_by_text("No image of this arm fits the filters.").is_visible()
    page.get_by_label("Outcome").select_option("")
    normal = int((test.labels[:8] == 0).sum())
    assert arm.locator(".item:visible").count() == normal
    page.get_by_label("True class").select_option("")
    page.get_by_label("Selected by").select_option("random sample")
    assert arm.locator(".item:visible").count() == 5
    gallery.get_by_label("Arm").select_option("scratch")
    assert gallery.locator(".arm:visible").inner_text() == "scratch"
    assert gallery.locator("output").inner_text() == "5 of 16 shown"


def test_a_map_is_seen_on_hover_on_focus_and_when_pressed(open_page):
    page = open_page("multiclass")
    button, other = page.locator(".peek").nth(0), page.locator(".peek").nth(1)
    left = "e.querySelector('img').getBoundingClientRect().left"
    seen = f"e => {left} < e.getBoundingClientRect().left - e.clientWidth / 2"
    assert not button.evaluate(seen)
    button.hover()
    assert button.evaluate(seen)
    page.mouse.move(0, 0)
    assert not button.evaluate(seen)
    button.focus()
    page.keyboard.press("Tab")
    assert other.evaluate(seen)
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    assert other.get_attribute("aria-pressed") == "true"
    assert other.evaluate(seen)
    page.get_by_label("All maps").check()
    assert button.evaluate(seen)
    page.get_by_label("All maps").uncheck()
    assert not other.evaluate(seen)
    assert page.get_by_text("Degenerate map: zero, constant").count() == 1


def test_on_paper_nothing_is_folded_or_waits_to_be_pressed(open_page):
    page = open_page("binary")
    page.emulate_media(media="print")
    for control in ("input", "select", "button[data-reset]", "nav"):
        assert page.locator(f"{control}:visible").count() == 0
    assert page.locator(".explorer [data-show=tp]").first.is_visible()
    assert page.locator("details pre").first.is_visible()
    assert page.locator("#maps .arm:visible").count() == 2
    whole = "e => e.querySelector('img').clientWidth === e.clientWidth"
    assert page.locator(".peek").first.evaluate(whole)
    assert len(page.pdf()) > 50_000


def test_every_control_has_a_name_and_shows_its_focus(open_page):
    page = open_page("multiclass")
    controls = page.locator("button:visible, input:visible, select:visible")
    assert controls.count() > 8
    names = "e => (e.ariaLabel || e.labels?.[0]?.innerText || e.innerText).trim()"
    for control in controls.all():
        assert control.evaluate(names)
    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
