"""Figures and tables for a paper."""

import csv
import json
import re

import pytest
from fixtures.marks import slow

from jaxmed.errors import InputError
from jaxmed.report.pages.paper import csv_table, escape, latex_table, write_paper
from jaxmed.report.tables.formatting import Cell, Table, number, word

COMMANDS = {
    "begin", "end", "centering", "footnotesize", "caption", "label", "toprule",
    "midrule", "bottomrule", "textbackslash", "textasciicircum", "textasciitilde",
    "textless", "textgreater", "textbar", "ldots", "times", "rightarrow", "downarrow",
}  # fmt: skip


@pytest.fixture(scope="module")
def paper(columns_folder):
    folders = write_paper(columns_folder, ["pdf", "csv", "latex"])
    assert folders == [columns_folder / "figures", columns_folder / "tables"]
    return columns_folder


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_figures_are_pdf_without_pixels(paper):
    names = {path.stem for path in (paper / "figures").glob("*.pdf")}
    joint = {"auroc", "accuracy", "auroc_difference", "accuracy_difference", "roc"}
    joint |= {"precision_recall", "decision_curve", "risk_coverage", "class_recall"}
    joint |= {"class_precision", "subgroups-site"}
    own = {"curves", "reliability", "confusion"}
    arms = ("scratch", "two_phase")
    expected = joint | {f"{arm}-{kind}" for arm in arms for kind in own}
    assert names == expected | {"two_phase-stages"}
    for name in names:
        content = (paper / "figures" / f"{name}.pdf").read_bytes()
        assert content.startswith(b"%PDF-")
        assert b"/Subtype /Image" not in content
        assert b"/FontType 3" not in content
        assert b"CreationDate" not in content


def test_csv_has_value_and_interval(paper):
    metrics = json.loads((paper / "scratch" / "seed-0" / "metrics.json").read_text())
    table = read_csv(paper / "tables" / "summary.csv")
    assert table[0] == ["", "scratch", "two_phase"]
    rows = {row[0]: row[1] for row in table[1:]}
    of_rows = {
        "AUROC": ("test", "auroc"),
        "log loss": ("test", "log_loss"),
        "MCC": ("test_at_threshold", "mcc"),
        "accuracy": ("test_at_threshold", "accuracy"),
        "accuracy at 0.5": ("test", "accuracy"),
    }
    for title, (part, name) in of_rows.items():
        found = metrics[part][name]
        low, high = f"{found['ci_low']:.3f}", f"{found['ci_high']:.3f}"
        expected = f"{found['value']:.3f} [{low}, {high}]"
        assert rows[title] == expected
    rows = {row[0]: row[1] for row in read_csv(paper / "tables" / "thresholds.csv")}
    found = metrics["threshold"]
    ends = f"[{found['ci_low']:.3f}, {found['ci_high']:.3f}]"
    assert rows["threshold"] == f"{found['value']:.3f} {ends}"
    table = read_csv(paper / "tables" / "scratch-per_class.csv")
    assert [row[0] for row in table] == ["class", "normal", "100 % ill"]
    assert {len(row) for row in table} == {len(table[0])}


def test_a_negative_number_has_a_minus_that_programs_read():
    row = (word("a − b"), number(-0.25), Cell(text="–", note="one class only"))
    table = Table(caption="", head=("arm", "MCC", "AUROC"), rows=(row,))
    assert csv_table(table) == "arm,MCC,AUROC\na − b,-0.250,one class only\n"


def test_files_of_any_column_have_names(paper):
    names = {path.name for path in (paper / "tables").iterdir()}
    assert {"subgroups-a_b.csv", "subgroups-a_b.tex", "subgroups-site.csv"} <= names
    assert not list(paper.rglob(".unfinished-*"))
    document = (paper / "tables" / "all.tex").read_text()
    inputs = set(re.findall(r"\\input\{(.+?)\}", document))
    assert {f"{name}.tex" for name in inputs} | {"all.tex"} == {
        name for name in names if name.endswith(".tex")
    }


def bare(line):
    """A line without escaped characters."""
    return re.sub(r"\\[{}$&#_%]", "", line)


def test_tables_are_sound_latex(paper):
    for path in (paper / "tables").glob("*.tex"):
        if path.stem == "all":
            continue
        comment, *lines = path.read_text(encoding="utf-8").splitlines()
        assert comment == r"% \usepackage{booktabs}"
        opened = []
        for line in lines:
            for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
                if kind == "begin":
                    opened.append(name)
                else:
                    assert opened.pop() == name
            text = bare(line)
            assert text.count("{") == text.count("}"), line
            assert text.count("$") % 2 == 0, line
            assert not re.search(r"[#%^~<>|]", text), line
            # Below the caption, an underscore is in a label only.
            assert "_" not in text or r"\label" in text, line
            assert set(re.findall(r"\\([A-Za-z]+)", line)) <= COMMANDS, line
        assert opened == []
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", "\n".join(lines))
        rows = [line for line in lines if line.endswith(r"\\")]
        assert rows
        for row in rows:
            assert bare(row).count("&") == len(columns) - 1, row
            assert not row.startswith(("[", "*")), row


def test_special_characters_are_escaped():
    assert escape("50 % of $x_1$ & #2 {a}\\b^c~d") == (
        r"50 \% of \$x\_1\$ \& \#2 \{a\}\textbackslash{}b"
        r"\textasciicircum{}c\textasciitilde{}d"
    )
    assert escape("a\nb\x00 <−1>") == r"a b \textless{}$-$1\textgreater{}"
    row = (word("[0, 1)"), number(1.0))
    text = latex_table(Table(caption="", head=("*", "b"), rows=(row,)), "tab:x")
    assert "\n{}[0, 1) & 1.000 \\\\\n" in text
    assert "\n{}* & b \\\\\n" in text


@pytest.mark.slow
def test_the_same_files_come_out_again(tmp_path, write_experiment):
    write_experiment(tmp_path / "full" / "seed-0", "binary", classes=2)
    write_paper(tmp_path, ["pdf"])
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert len(before) > 5
    write_paper(tmp_path, ["pdf"])
    for path, content in before.items():
        assert path.read_bytes() == content


def test_nothing_is_written_of_what_is_no_experiment(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        write_paper(tmp_path, ["pdf", "csv"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["multiclass", slow("multilabel")])
def test_other_tasks(task, tmp_path, write_experiment):
    write_experiment(tmp_path / "full" / "seed-0", task, classes=3)
    write_paper(tmp_path, ["csv", "pdf"])
    table = read_csv(tmp_path / "tables" / "full-thresholds.csv")
    assert table[0][:2] == ["class", "threshold"]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", table[1][1])
    assert (tmp_path / "figures" / "full-precision_recall.pdf").exists()
