"""Links in the documentation lead to files, and to headings that are there."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted(CHECKOUT.glob("docs/*.md")),
    *(
        CHECKOUT / name / "README.md"
        for name in ("experiments", "benchmarks", "convert")
    ),
]
# What looks like a link within code is none.
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"""(?:\[[^\]]*\]\(|<img src=")([^)\s"]+)""")


def links_of(page: Path) -> list[str]:
    found = LINK.findall(CODE.sub("", page.read_text("utf-8")))
    return [link for link in found if "://" not in link]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda p: p.relative_to(CHECKOUT).as_posix()
)
def test_every_link_leads_somewhere(page):
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name} links to {link}"


def test_every_page_is_linked_from_the_readme():
    readme = CHECKOUT / "README.md"
    linked = {
        (CHECKOUT / link.partition("#")[0]).resolve() for link in links_of(readme)
    }
    assert set(PAGES) - {readme} <= linked


def test_files_that_are_named_are_there():
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(
            r"`((?:jaxmed|convert|tests|experiments|docs)/[\w/.]+\.\w+)`", text
        )
        for path in named:
            # A name in capitals stands for one.
            assert "NAME" in path or (CHECKOUT / path).exists(), path
