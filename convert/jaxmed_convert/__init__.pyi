from .conversion import Report as Report
from .conversion import from_torch as from_torch
from .conversion import to_torch as to_torch
from .weights.pretrained import StartingWeights as StartingWeights
from .weights.pretrained import initialize as initialize
