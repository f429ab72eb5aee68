"""Examples in docstrings, run: those of every module of the two packages.

A new example needs no registration. It is run in an empty folder, and should take well
under a second: random weights, `resnet10_narrow`, a few small images.
"""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    """Names of modules whose text has an example, found without importing them."""
    names = []
    for home, package in ((ROOT, "jaxmed"), (ROOT / "convert", "jaxmed_convert")):
        for file in sorted((home / package).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                path = file.relative_to(home).with_suffix("")
                names.append(".".join(path.parts).removesuffix(".__init__"))
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.attempted > 0, f"{name} has >>> outside of its docstrings"
    assert not result.failed, f"see the output above for {name}"
