"""Tests of the report in a real browser, at a phone's and a desktop's width."""

from pathlib import Path

import pytest

from jaxmed.config.published import Expectation
from jaxmed.report import build_report

PAGES = ["binary_folder", "multiclass_folder", "sheet", "leaderboard"]


@pytest.fixture(scope="module", params=PAGES)
def report(request) -> Path:
    if request.param in ("sheet", "leaderboard"):
        return request.getfixturevalue(request.param)
    folder = request.getfixturevalue(request.param)
    expected = [
        Expectation(
            arm="two_phase",
            metric="train_accuracy",
            value=(0.9,) * 8,
            source="a_very_long_source_name_" * 8,
        )
    ]
    return build_report(folder, title="a_long_experiment_name_" * 4, expected=expected)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_and_is_quiet(browser, report: Path, width: int, scheme):
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    trouble, asked = [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    # Whatever is folded away must fit, too.
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    script = "[document.scrollingElement.scrollWidth, window.innerWidth]"
    needed, available = page.evaluate(script)
    assert needed <= available == width
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth))"
    assert page.evaluate(f"{broken}.length") == 0
    unnamed = "[...document.images].filter(i => !i.alt).length"
    assert page.evaluate(unnamed) == 0
    assert trouble == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    page.close()


def test_print_fits_the_paper(browser, report: Path):
    # A4 within margins of 12 mm, at 96 dots per inch.
    page = browser.new_page(viewport={"width": 700, "height": 1000})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 700
    page.close()


def test_keyboard_reaches_contents_and_tables(browser, report: Path):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(report.as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") in ("#results", "#findings", "#numbers")
    focusable = "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)"
    assert page.evaluate(focusable)
    anchors = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert len(anchors) > 4
    for anchor in anchors:
        assert page.locator(anchor).count() == 1
    page.close()
