"""Tests of the strategy's picture: what is in the figure, and what it says in words."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from jaxmed.report import build_report, read_run
from jaxmed.report.figures.strategy_diagram import draw_stages, rate_scale
from jaxmed.report.figures.style import png
from jaxmed.report.text.phases import describe_phases, read_phases
from jaxmed.runs.record import RunRecord


def stage(name="layer1", parameters=1000, trained=None, rates=(), **norms) -> dict:
    """A stage as environment.json has it; trained as a whole if it has rates."""
    whole = parameters if rates else 0
    return {
        "name": name,
        "parameters": parameters,
        "trained": whole if trained is None else trained,
        "rates": list(rates),
        "norms": {"frozen": 0, "trained": 0, "updating_bn_stats": 0} | norms,
    }


@pytest.fixture
def make_run(binary_folder: Path):
    """Builds a run from lists of stages, one list per phase."""
    run = read_run(binary_folder / "scratch" / "seed-0")

    def make(*phases: list[dict], **fields) -> RunRecord:
        entries = [
            {"name": f"phase {i}", "epochs": i + 1, "stages": stages} | fields
            for i, stages in enumerate(phases)
        ]
        environment = {"parameters": {"total": 1, "phases": entries}}
        return replace(run, environment=environment)

    return make


def draw(run: RunRecord, scale: LogNorm | None = None) -> Figure:
    return draw_stages(read_phases(run), scale or rate_scale([run]))


def boxes(figure: Figure) -> list:
    return [patch for patch in figure.axes[0].patches if patch.get_gid() == "stage"]


def words(figure: Figure, gid: str | None = None) -> list[str]:
    found = figure.axes[0].texts
    return [text.get_text() for text in found if gid in (None, text.get_gid())]


def outside(figure: Figure) -> list[str]:
    """The words that are not wholly within the picture."""
    figure.draw_without_rendering()
    page = figure.bbox.padded(1)
    found = []
    for text in figure.axes[0].texts:
        place = text.get_window_extent()
        if text.get_text() and not (
            page.contains(place.x0, place.y0) and page.contains(place.x1, place.y1)
        ):
            found.append(text.get_text())
    return found


def overflowing(figure: Figure) -> list[str]:
    """The words whose middle is in a box but which are wider than it."""
    figure.draw_without_rendering()
    found = []
    for box in (patch.get_window_extent() for patch in boxes(figure)):
        for text in figure.axes[0].texts:
            place = text.get_window_extent()
            middle = (place.x0 + place.x1) / 2, (place.y0 + place.y1) / 2
            mark = text.get_gid() == "mark"
            if box.contains(*middle) and not mark and place.width > box.width:
                found.append(text.get_text())
    return found


def test_box_per_stage_and_phase_in_the_order_of_the_network(binary_folder):
    figure = draw(read_run(binary_folder / "two_phase" / "seed-0"))
    found = boxes(figure)
    assert len(found) == 2 * 6
    lefts = [box.get_x() for box in found]
    assert lefts[:6] == sorted(lefts[:6]) == lefts[6:]
    names = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert words(figure, "name") == names
    assert found[4].get_width() > found[3].get_width() > 20
    assert words(figure).count("frozen") == 5
    assert words(figure).count("1e-5") == 5
    assert words(figure).count("1e-3") == 2
    assert "5 epochs, cosine by step" in words(figure)
    assert "3 epochs" in words(figure)
    # One in a box and one that says what it means.
    assert sorted(words(figure, "mark")) == sorted("↻↻❄❄")
    assert outside(figure) == overflowing(figure) == []


def test_large_stages_are_as_wide_as_the_root_of_their_parameters(make_run):
    run = make_run([stage("a", 4_000_000), stage("b", 1_000_000), stage("c", 10)])
    first, second, _ = (box.get_width() for box in boxes(draw(run)))
    assert first / second == pytest.approx(2, rel=1e-2)


def test_equal_rates_have_equal_colors_in_all_arms(make_run):
    low = make_run([stage("a", rates=[1e-5]), stage("b", rates=[1e-3])])
    high = make_run([stage("a", rates=[1e-3]), stage("b", rates=[0.1])])
    scale = rate_scale([low, high])
    assert scale is not None
    assert (scale.vmin, scale.vmax) == pytest.approx((1e-5, 0.1))

    def fills(run):
        patches = draw(run, scale).axes[0].patches
        return [p.get_facecolor() for p in patches if p.get_gid() is None]

    colors = fills(low), fills(high)
    assert colors[0][1] == colors[1][0]
    assert to_rgb(colors[0][1]) == pytest.approx(
        matplotlib.colormaps["viridis_r"](0.5)[:3]
    )
    assert len({*colors[0], *colors[1]}) == 3


def test_part_of_a_stage_is_said_and_half_of_its_box_is_gray(make_run):
    run = make_run([stage("a", 1000, 24, [1e-3]), stage("b", 10**6, 1, [1e-4, 1e-3])])
    figure = draw(run)
    assert {"2.4 %", "<0.1 %"} < set(words(figure))
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 2
    assert hatched[0].get_height() == boxes(figure)[0].get_height() / 2
    text = describe_phases("x", read_phases(run))
    assert "a in part (2.4 %) at 1e-3; b in part (<0.1 %) at 1e-4 to 1e-3." in text


@pytest.mark.parametrize(
    "stages",
    [
        [stage(f"stage_of_a_long_name_{i}", 4**i, rates=[3e-4]) for i in range(20)],
        [stage(f"denseblock{i}", 10**i, rates=[6.25e-5]) for i in range(6)],
        [stage("a", 0), stage("$x_1$ <b>" * 9, rates=[0.0, 1.0]), stage("картинка")],
        [stage("only", 10**10, 10**10 - 1, rates=[0.0], updating_bn_stats=2, frozen=1)],
        [
            stage(f"s{i}", 9, 8, [1e-12, 9e-6], updating_bn_stats=1, frozen=3)
            for i in range(9)
        ],
    ],
    ids=["twenty", "dense", "odd names", "rate of zero", "many decades"],
)
def test_extreme_networks_fit_the_picture(make_run, stages):
    run = make_run(*[stages] * 6, schedule="one of very many words " * 9)
    figure = draw(run)
    assert len(boxes(figure)) == 6 * len(stages)
    assert outside(figure) == overflowing(figure) == []
    assert png(figure)


def test_rate_of_zero_is_trained_and_has_no_scale(make_run):
    run = make_run([stage("a", rates=[0.0])])
    assert rate_scale([run]) is None
    figure = draw(run)
    assert "0" in words(figure)
    assert "frozen" not in words(figure)
    assert "learning rate" not in words(figure)


@pytest.mark.parametrize(
    "phases",
    [
        [],
        [[]],
        [[stage("a")], []],
        [[stage("a")], [stage("b")]],
    ],
)
def test_runs_that_recorded_no_stages_have_no_picture(make_run, phases):
    run = make_run(*phases)
    assert read_phases(run) == ()
    assert rate_scale([run]) is None


def test_page_has_the_picture_and_its_words(binary_folder, binary_html):
    alts = [html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', binary_html)]
    (alt,) = [alt for alt in alts if alt.startswith("Training phases of two_phase")]
    assert alt == (
        "Training phases of two_phase, by stage from the image to the head. Phase head "
        "(3 epochs): stem frozen; layer1 frozen, BatchNorm statistics updating; layer2 "
        "to layer4 frozen; head at 1e-3. Phase all (5 epochs, cosine by step): stem at "
        "1e-5; layer1 at 1e-5, BatchNorm statistics frozen; layer2 to layer4 at 1e-5; "
        "head at 1e-3."
    )
    assert not any(alt.startswith("What scratch trains") for alt in alts)
    for text in (
        "Strategy diagram: a row per phase",
        "the highest learning rate is shown",
        "In two_phase (phase head) frozen BatchNorm layers update their statistics",
        "In two_phase (phase all) trained BatchNorm layers keep",
        "The lowest panel shows the learning rate",
        "cosine by step",
    ):
        assert text in binary_html
    for arm, there in (("two_phase", True), ("scratch", False)):
        path = binary_folder / arm / "seed-1" / "figures" / "stages.png"
        assert path.exists() == there
        if there:
            with Image.open(path) as image:
                image.verify()


def test_stages_without_history_have_the_section(tmp_path: Path, write_experiment):
    run = tmp_path / "a" / "seed-0"
    write_experiment(run, "binary", classes=2)
    phase = {"name": "<i>", "epochs": 1, "trainable": 1000, "groups": []}
    phase |= {"stages": [stage("<b>", rates=[1e-4])]}
    environment = {"parameters": {"total": 1000, "phases": [phase]}}
    (run / "environment.json").write_text(json.dumps(environment))
    page = build_report(tmp_path, title="stages").read_text()
    assert 'id="training"' in page
    assert "Phase &lt;i&gt; (1 epoch): &lt;b&gt; at 1e-4." in page
    assert "Dashed lines are" not in page
