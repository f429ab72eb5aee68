"""The wheel: built without a network, and used from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    # Nothing may be fetched, hence hatchling from this environment.
    flags = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", *flags, "--wheel-dir", folder, CHECKOUT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with the wheel, and this one's dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", where, cwd=folder).strip())
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet")
    flags = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(*pip, "install", *flags, wheel, cwd=folder)
    # A folder named in a .pth file is searched after the environment's own, and its
    # own .pth files (this checkout's editable install) are not read.
    paths = dict.fromkeys(sysconfig.get_path(n) for n in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("\n".join(paths) + "\n")
    return python


def test_wheel_holds_both_packages_recipes_and_templates(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "jaxmed").rglob("*")
        if path.suffix in (".py", ".j2", ".css", ".js")
    }
    sources |= {
        path.relative_to(CHECKOUT / "convert").as_posix()
        for path in (CHECKOUT / "convert").rglob("*.py")
    }
    recipes = {
        f"jaxmed/experiments/recipes/{path.name}"
        for path in (CHECKOUT / "experiments").glob("*.toml")
    }
    assert len(recipes) >= 5
    assert sources | recipes <= names


def test_wheel_has_no_stray_top_level_module(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "jaxmed",
        "jaxmed_convert",
    }


def test_installed_wheel_is_used_and_lists_its_recipes(installed, tmp_path):
    where = "import jaxmed, jaxmed_convert as c; print(jaxmed.__file__, c.__file__)"
    for path in run(installed, "-c", where, cwd=tmp_path).split():
        assert Path(path).is_relative_to(installed.parents[1])
    listed = run(installed, "-m", "jaxmed.experiments", "list", cwd=tmp_path)
    for recipe in (CHECKOUT / "experiments").glob("*.toml"):
        assert recipe.stem in listed
    code = "from jaxmed.config.recipes import recipes_folder as f; print(f())"
    folder = Path(run(installed, "-c", code, cwd=tmp_path).strip())
    assert folder.is_relative_to(installed.parents[1])


def test_installed_converter_lists_its_weights(installed, tmp_path):
    listed = run(installed, "-m", "jaxmed_convert", "list", cwd=tmp_path)
    assert "resnet18" in listed
