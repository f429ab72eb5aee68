"""Table and note of the faithfulness of a saliency method."""

from jaxmed.explain.methods import METHODS
from jaxmed.report.tables.formatting import Table, estimate, footnotes, word
from jaxmed.runs.record import RunRecord

ROWS = {
    "insertion": "insertion, area ↑",
    "deletion": "deletion, area ↓",
    "road": "ROAD ↑",
    "rank_correlation": "rank correlation with random weights ↓",
    "similarity": "SSIM with random weights ↓",
}
NOTE = (
    "Insertion puts the most important pixels into the blurred image, deletion takes "
    "them out of the image, and ROAD replaces them by what surrounds them: the "
    "probability of the class should follow. Each is also measured with random maps as "
    "coarse as the method's own, and the gain is how much better the maps do, image by "
    "image; at 0 they tell no more than chance. Where maps stay alike when all weights "
    "are random, they show the image and not the model."
)


def faithfulness_table(run: RunRecord) -> Table | None:
    """Tabulate the measures of a run: of its maps, of random ones, and the gain.

    Returns:
        None for a run whose maps were not measured.
    """
    measures = run.faithfulness
    if not measures:
        return None
    layer = f" of {measures['layer']}" if measures.get("layer") else ""
    caption = f"{METHODS[measures['method']].title}{layer}"
    metrics = measures.get("metrics")
    if not metrics:
        return Table(caption=f"{caption}: {measures['reason']}", head=(), rows=())
    rows = []
    for name, title in ROWS.items():
        others = (metrics.get(f"{name}_{of}") for of in ("random", "gain"))
        cells = [estimate(other, sign=i == 1) for i, other in enumerate(others)]
        rows.append((word(title), estimate(metrics[name]), *cells))
    count, left_out = measures["images"], measures["degenerate"]
    note = f"{count} test images drawn at random, with 95 % intervals over them."
    if left_out:
        note += f" Of {left_out} more the map is no evidence."
    return Table(
        caption=caption,
        head=("measure", "maps", "random maps", "gain"),
        rows=tuple(rows),
        note=" ".join(filter(None, (note, footnotes(rows)))),
    )
