"""`compare`: finished runs on the same test images, in pairs, with tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.flags import split_list
from jaxmed.errors import InputError
from jaxmed.runs.layout import check_writable
from jaxmed.runtime.csv_files import write_csv
from jaxmed.runtime.files import write_json

if TYPE_CHECKING:
    from jaxmed.experiments.pipeline.compared_runs import Compared

HELP = "compare finished runs on the same test images: paired differences and tests"
DESCRIPTION = """\
Compares runs, arms or experiments on the images they were all tested on. A run's folder
is compared as it is; an arm's as the mean over its seeds; of an experiment's folder,
its arms. AUROC by DeLong's test (of patients by Obuchowski's), accuracy at each run's
own threshold by McNemar's, everything else by a paired bootstrap, of patients where
they are known. What training again would give has an interval of its own, which adds
the seeds' variance. Several comparisons are adjusted by Holm. With a margin that was
fixed beforehand, non-inferiority and equivalence are tested too."""
EXAMPLES = """\
  compare runs/quickstart
  compare runs/mine/frozen runs/mine/full --out frozen_full.html --out frozen_full.csv
  compare runs/mine/full/seed-0 runs/other/full/seed-0"""
OUT_SUFFIXES = (".json", ".csv", ".html")


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "folders",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folder of a run, an arm or an experiment; the others are compared with "
        "the first",
    )
    parser.add_argument(
        "--all-pairs", action="store_true", help="compare every two, not with the first"
    )
    parser.add_argument(
        "--margin",
        metavar="D",
        type=float,
        help="test non-inferiority and equivalence too: the largest loss that would be "
        "acceptable, fixed before the results were seen, such as 0.02",
    )
    parser.add_argument(
        "--margin-metric",
        metavar="NAME",
        default="auroc",
        help="metric that the margin is of (default: auroc)",
    )
    parser.add_argument(
        "--thresholds",
        metavar="P,P",
        help="probabilities at which net benefits are compared, in binary tasks",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="write it too, as .json, .csv or .html; may be given several times",
    )
    parser.add_argument(
        "--resamples",
        metavar="N",
        type=int,
        default=2000,
        help="of the bootstrap, at least (default: 2000); many comparisons take more",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the bootstrap (default: 0)"
    )
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES


def execute(arguments: Any) -> None:
    """Carry the command out."""
    for path in arguments.out:
        _check_out(path)
    # Only now: they bring matplotlib and scipy.
    from jaxmed.experiments.pipeline.compared_runs import read_compared

    chosen = {}
    if arguments.thresholds:
        chosen["thresholds"] = _numbers(arguments.thresholds)
    compared = read_compared(arguments.folders)
    result = compare_runs(
        compared,
        all_pairs=arguments.all_pairs,
        margin=arguments.margin,
        margin_metric=arguments.margin_metric,
        resamples=arguments.resamples,
        seed=arguments.seed,
        **chosen,
    )
    show(result)
    for path in arguments.out:
        write(path, result)
        print(f"Written: {path}")


def compare_runs(compared: "Compared", **options: Any) -> dict[str, Any]:
    """Compare what was read.

    Args:
        compared: at least two runs or arms.
        **options: of `compare_arms`.

    Returns:
        What `compare_arms` does, with "runs", the folders, of each arm, and "notes".

    Raises:
        InputError: they were not tested on the same images.
    """
    from jaxmed.evaluation import compare_arms

    result = compare_arms(
        {name: [run.scored for run in runs] for name, runs in compared.arms.items()},
        **options,
    )
    for name, runs in compared.arms.items():
        folders = [str(run.folder) for run in runs]
        result["arms"][name] = {"runs": folders} | result["arms"][name]
    return result | {"notes": list(compared.notes)}


def show(result: Mapping[str, Any]) -> None:
    """Print tables and sentences."""
    from jaxmed.experiments.printing.tables import print_table
    from jaxmed.report.tables import comparison as contrasts
    from jaxmed.report.tables.noninferiority import margin_sentences, margin_table

    for pair in result["comparisons"]:
        print_table(contrasts.difference_table(result, pair))
        print_table(contrasts.class_difference_table(result, pair))
        print_table(contrasts.training_table(result, pair))
        print_table(contrasts.net_benefit_table(pair))
    print_table(margin_table(result))
    print_table(contrasts.spread_table(result))
    sentences = [*contrasts.comparison_sentences(result), *margin_sentences(result)]
    about = [*contrasts.method_sentences(result), *result["notes"]]
    print("\n".join([*sentences, "", *about]))


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write the comparison as its file's name ends."""
    if path.suffix == ".json":
        write_json(path, result)
    elif path.suffix == ".csv":
        from jaxmed.report.tables.comparison import comparison_rows

        rows = list(comparison_rows(result))
        write_csv(path, list(rows[0]), rows)
    else:
        from jaxmed.report.pages.comparison import build_comparison_page

        build_comparison_page(path, result)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in split_list(text)]
    except ValueError:
        raise InputError(
            f"--thresholds must be numbers in (0, 1), as in 0.1,0.2; got {text!r}."
        ) from None


def _check_out(path: Path) -> None:
    if path.suffix not in OUT_SUFFIXES:
        raise InputError(
            f"--out {path} must end in one of {', '.join(OUT_SUFFIXES)}, which says "
            "what is written."
        )
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; give a file in it.")
    check_writable(path.parent, "Give another --out.")
