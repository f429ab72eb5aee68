"""The house: an import points down only, and the picture shows what there is."""

import ast
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
FLOORS = (
    {
        "annotations",
        "cache",
        "errors",
        "files",
        "hosts",
        "interrupts",
        "locks",
        "progress",
        "scale",
    },
    {"data", "models", "evaluation"},
    {"strategies", "explain", "jaxmed_convert"},
    {"training", "report"},
    {"experiments"},
)
GROUND = FLOORS[0]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    path: path.relative_to(root).with_suffix("").parts
    for root in (CHECKOUT, CHECKOUT / "convert")
    for package in ("jaxmed", "jaxmed_convert")
    for path in (root / package).rglob("*.py")
}


def room_of(parts) -> str | None:
    """The room of a module's name; None for the front door, and for other packages."""
    if parts[0] == "jaxmed_convert":
        return parts[0]
    if parts[0] != "jaxmed" or len(parts) < 2 or parts[1] == "__init__":
        return None
    return parts[1]


def imports_of(path: Path) -> Iterator[str]:
    """Yields the rooms of all imports of a file, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
        for name in names:
            if room := room_of(name.split(".")):
                yield room


def rooms() -> dict[str, set[str]]:
    """What each room imports of the others above the ground."""
    found: dict[str, set[str]] = {}
    for path, parts in MODULES.items():
        if (room := room_of(parts)) and room not in GROUND:
            found.setdefault(room, set()).update(set(imports_of(path)) - GROUND)
    return {room: others - {room} for room, others in found.items()}


def test_every_room_has_a_floor():
    assert {room_of(parts) for parts in MODULES.values()} - {None} == set(FLOOR_OF)


def test_an_import_points_down_only():
    wrong = []
    for path, parts in MODULES.items():
        own = room_of(parts)
        # Of the front door, jaxmed/__init__.py, names load on first use.
        for room in imports_of(path) if own else ():
            within = room == own or {room, own} <= GROUND
            if not within and FLOOR_OF[room] >= FLOOR_OF[own]:
                wrong.append(f"{'/'.join(parts)} imports {room}")
    assert not wrong


def test_the_picture_shows_every_room_and_what_it_imports():
    picture = ET.parse(CHECKOUT / "docs" / "house.svg").getroot()
    shown, places = {}, {}
    for group in picture.iter("{http://www.w3.org/2000/svg}g"):
        box, *texts = group
        words = " ".join(text.text or "" for text in texts)
        if group.get("id") == "ground":
            assert set(words.partition(": ")[2].split(", ")) == GROUND
            continue
        imports = words.partition("imports ")[2]
        shown[group.get("id")] = set(re.findall(r"\w+", imports))
        places[group.get("id")] = float(box.get("y", ""))
    # Which is everything.
    shown["experiments"] = set(FLOOR_OF) - GROUND - {"experiments"}
    assert shown == rooms()
    for room, others in shown.items():
        assert all(places[other] > places[room] for other in others)
