"""Tables of the report, as HTML, LaTeX and CSV."""
