"""The default suite with the versions that users may have: `make test-versions`.

For every supported Python that is found, under pyenv's folder or on the PATH, with the
newest releases and with the oldest that pyproject.toml allows, an environment is made
in `.venvs`, the suite is run in it, and the environment is removed. Some of the names,
such as `3.13-newest 3.11-oldest`, make only these; `--keep` keeps their environments,
and `--without-torch` makes them small: tests that compare with torch are left out.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venvs"
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"newest": "highest", "oldest": "lowest-direct"}
# Compiled, so that an old release may have no wheel for a new Python.
WHEELS = [
    *("contourpy", "jaxlib", "matplotlib", "ml-dtypes", "numpy", "onnx"),
    *("onnxruntime", "pillow", "pyarrow", "safetensors", "scikit-learn", "scipy"),
    *("statsmodels", "tensorstore", "torch", "torchvision"),
]
EXTRAS = {True: ["dev"], False: ["dicom", "parquet", "tfds"]}
TOOLS = ["playwright>=1.50", "pytest>=8.3", "pytest-xdist>=3.6", "statsmodels>=0.14.4"]
SHOWN = ("jax", "flax", "numpy", "scipy", "scikit-learn", "torch")


def find_python(version: str) -> Path | None:
    """Return the newest interpreter of a version such as 3.12."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = (home / "versions").glob(f"{version}.*")
    patches = sorted(
        folders, key=lambda f: [int(n) for n in re.findall(r"\d+", f.name)]
    )
    for python in [f / "bin" / "python" for f in reversed(patches)]:
        if python.exists():
            return python
    command = shutil.which(f"python{version}")
    return Path(command) if command else None


def make_environment(python: Path, resolution: str, folder: Path, torch: bool) -> Path:
    """Return the interpreter of a new environment."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--clear", "-p", python, folder], check=True)
    own = folder / "bin" / "python"
    wheels = [word for name in WHEELS for word in ("--only-binary", name)]
    target = f"{ROOT}[{','.join(EXTRAS[torch])}]"
    subprocess.run(
        [*uv, "pip", "install", "-q", "-p", own, "--resolution", resolution, *wheels,
         *([] if torch else TOOLS), "-e", target],
        check=True,
    )  # fmt: skip
    return own


def run_suite(python: Path, name: str) -> str:
    """Return pytest's last line; all that it printed is in `.venvs/NAME.log`."""
    log = FOLDER / f"{name}.log"
    command = [python, "-m", "pytest", "-n", "auto", "--dist", "loadfile"]
    with log.open("w") as file:
        subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    lines = [line for line in log.read_text().splitlines() if " in " in line]
    return lines[-1].strip("= ") if lines else f"no result: see {log}"


def versions_of(python: Path) -> Iterator[str]:
    listing = (
        "from importlib import metadata as m\n"
        f"for name in {SHOWN}:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass"
    )
    done = subprocess.run(
        [python, "-c", listing], capture_output=True, text=True, check=True
    )
    yield from done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    every = [f"{version}-{kind}" for version in PYTHONS for kind in RESOLUTIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(every))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--without-torch", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(every):
        parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(every)}")
    FOLDER.mkdir(exist_ok=True)
    print("| Python | releases | versions | result |\n|---|---|---|---|", flush=True)
    for name in arguments.names or every:
        version, kind = name.split("-")
        python = find_python(version)
        if python is None:
            print(f"| {version} | {kind} | | not found |", flush=True)
            continue
        folder = FOLDER / name
        try:
            own = make_environment(
                python, RESOLUTIONS[kind], folder, not arguments.without_torch
            )
            result = run_suite(own, name)
            versions = ", ".join(versions_of(own))
        except subprocess.CalledProcessError:
            versions, result = "", "could not be installed"
        finally:
            if not arguments.keep:
                shutil.rmtree(folder, ignore_errors=True)
        print(f"| {version} | {kind} | {versions} | {result} |", flush=True)


if __name__ == "__main__":
    main()
