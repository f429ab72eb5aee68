"""ResNet-50 in PyTorch, for machines without torchvision, by its names."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; the second one strides."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False),
                nn.BatchNorm2d(4 * width),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """He et al., "Deep Residual Learning", CVPR 2016, table 1."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, blocks in enumerate((3, 4, 6, 3), start=1):
            width = 32 * 2**number
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if block == 0 and number > 1 else 1
                layer.append(Bottleneck(channels, width, stride))
                channels = 4 * width
            setattr(self, f"layer{number}", layer)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean(dim=(2, 3)))
