"""Pages of the site that are made from other files: READMEs, and the commands' help.

mkdocs calls the functions named on_*.
"""

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.structure.files import File

CHECKOUT = Path(__file__).parents[1]
# Pages from outside the folder docs, by their path in the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/README.md": "experiments.md",
    "benchmarks/README.md": "benchmarks.md",
    "convert/README.md": "convert.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r'(?P<open>\[[^\]]*\]\(|<img src=")(?P<to>[^)\s"#]+)(?P<rest>[^)"]*)')


def on_files(files, config):
    """Add the READMEs, their pictures and the generated pages."""
    for source, page in PAGES.items():
        text = (CHECKOUT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for picture in sorted((CHECKOUT / "benchmarks").glob("*.png")):
        path = f"benchmarks/{picture.name}"
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    pages = {
        "reference/command_line.md": command_line(),
        "reference/strategies.md": strategies(),
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def replace(match):
        target = match["to"]
        if "://" in target or target.startswith(("mailto:", "data:")):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        on_site = PAGES.get(path, path.removeprefix("docs/"))
        start = posixpath.dirname(here) or "."
        return f"{match['open']}{posixpath.relpath(on_site, start)}{match['rest']}"

    return LINK.sub(replace, markdown)


def command_line() -> str:
    """Return a page with the help of every command."""
    from jaxmed.experiments.__main__ import COMMANDS

    parts = [
        "# Command line",
        "`jaxmed COMMAND` and `python -m jaxmed.experiments COMMAND` are the same.",
    ]
    for command in (*COMMANDS, "convert"):
        help_text = run_command(command, "--help")
        parts += [f"## {command}", f"```text\n{help_text}\n```"]
    return "\n\n".join(parts)


def strategies() -> str:
    """Return a page with all strategies, their options and settings."""
    text = run_command("list", "--strategies")
    return f"# Strategies and schedules\n\n```text\n{text}\n```\n"


def run_command(*arguments: str) -> str:
    paths = [str(CHECKOUT), str(CHECKOUT / "convert"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "jaxmed.experiments", *arguments],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ
        | {"COLUMNS": "88", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    return done.stdout.rstrip()
