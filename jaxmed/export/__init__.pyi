from .export_model import export_model as export_model
from .formats import EXPORTERS as EXPORTERS
from .stablehlo import build_program as build_program
