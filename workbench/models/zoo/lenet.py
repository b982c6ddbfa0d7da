"""The two LeNets of the compression literature (LeCun 1998, as used by Han et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class LeNet300(nn.Module):
    """LeNet-300-100: three fully connected layers, 266,610 parameters.

    Input ``(N, 1, 28, 28)``, output logits ``(N, num_classes)``.
    """

    def __init__(self, num_classes: int = 10, hidden: tuple[int, int] = (300, 100)) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, hidden[0])
        self.fc2 = nn.Linear(*hidden)
        self.fc3 = nn.Linear(hidden[1], num_classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(self.relu(self.fc2(x)))
        return logits


class LeNet5(nn.Module):
    """LeNet-5 in the Caffe variant (20-50-500), 431,080 parameters.

    Input ``(N, 1, 28, 28)``, output logits ``(N, num_classes)``.
    """

    def __init__(self, num_classes: int = 10, widths: tuple[int, int, int] = (20, 50, 500)) -> None:
        super().__init__()
        first, second, hidden = widths
        self.conv1 = nn.Conv2d(1, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(second * 4 * 4, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        logits: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return logits
