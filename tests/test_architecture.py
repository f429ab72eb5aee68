"""The architecture that CONTRIBUTING.md describes: layers, folders and names."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text("utf-8")
MODULES = {
    path: ".".join(path.relative_to(root).with_suffix("").parts)
    for root in (CHECKOUT, CHECKOUT / "convert")
    for package in ("jaxmed", "jaxmed_convert")
    for path in (root / package).rglob("*.py")
}
# About a dozen, and the package's own __init__.
LARGEST_FOLDER = 14
# Words that stand for the same concept wherever they occur.
SHARED_MODULES = {
    "audit",
    "augmentation",
    "comparison",
    "cross_validation",
    "dataset",
    "decision_curve",
    "experiment",
    "external_validation",
    "leaderboard",
    "predictions",
    "published",
    "registry",
    "rules",
    "subgroups",
}


def layers() -> list[list[str]]:
    """The packages of each layer, topmost first, as CONTRIBUTING.md lists them."""
    block = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    lines = [line for line in block[1].splitlines() if not line.startswith(" ")]
    return [line.partition("  ")[0].split(", ") for line in lines]


LAYER_OF = {
    package: height
    for height, packages in enumerate(reversed(layers()))
    for package in packages
}


def package_of(module: str) -> str | None:
    """The package of a module's name; None for jaxmed itself, and for other code."""
    first, *rest = module.split(".")
    if first == "jaxmed_convert":
        return first
    if first != "jaxmed" or not rest or rest[0] == "__init__":
        return None
    return rest[0]


def imports_of(path: Path) -> Iterator[str]:
    """Yields what a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_every_package_has_a_layer():
    assert {package_of(module) for module in MODULES.values()} - {None} == set(LAYER_OF)


def test_an_import_points_down_only():
    wrong, beside = [], {}
    for path, module in MODULES.items():
        own = package_of(module)
        # jaxmed/__init__.pyi names what it likes: it loads on first use.
        for other in map(package_of, imports_of(path) if own else ()):
            if other is None or other == own:
                continue
            if LAYER_OF[other] > LAYER_OF[own]:
                wrong.append(f"{module} imports {other}")
            elif LAYER_OF[other] == LAYER_OF[own]:
                beside.setdefault(own, set()).add(other)
    assert not wrong
    # Packages of one layer may import one another, but not in a circle.
    TopologicalSorter(beside).prepare()


def test_modules_do_not_import_each_other_in_a_circle():
    names = {module.removesuffix(".__init__") for module in MODULES.values()}
    graph: dict[str, set[str]] = {}
    for path, module in MODULES.items():
        if path.name == "__init__.py":
            continue
        for imported in imports_of(path):
            target = imported if imported in names else imported.rpartition(".")[0]
            if f"{target}.__init__" not in MODULES.values() and target in names:
                graph.setdefault(module, set()).add(target)
    TopologicalSorter(graph).prepare()


def test_a_folder_holds_about_a_dozen_modules():
    sizes = Counter(path.parent for path in MODULES)
    assert not {str(k): n for k, n in sizes.items() if n > LARGEST_FOLDER}


def test_a_module_name_means_one_thing():
    names = Counter(path.stem for path in MODULES if not path.stem.startswith("__"))
    assert {name for name, count in names.items() if count > 1} <= SHARED_MODULES


def test_a_class_name_means_one_thing():
    classes = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in classes.items() if count > 1}
