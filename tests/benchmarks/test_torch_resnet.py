"""The PyTorch program's ResNet-50 is torchvision's."""

import runpy
from pathlib import Path

import torch
from torchvision.models import resnet50

FILE = Path(__file__).parents[2] / "benchmarks" / "torch_resnet.py"


def test_names_and_logits_are_torchvisions():
    torch.manual_seed(0)
    ours, theirs = runpy.run_path(str(FILE))["ResNet50"](8), resnet50(num_classes=8)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 65, 65)
    for mode in (True, False):
        with torch.no_grad():
            expected = theirs.train(mode)(images)
            torch.testing.assert_close(ours.train(mode)(images), expected)
