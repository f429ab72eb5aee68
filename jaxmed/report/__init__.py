"""Report of an experiment: figures and one self-contained page, from its folder."""

from jaxmed.report.pages.experiment import build_report
from jaxmed.runs.record import RunRecord, read_run

__all__ = ["RunRecord", "build_report", "read_run"]
