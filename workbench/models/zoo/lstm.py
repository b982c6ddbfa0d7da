"""An LSTM (Hochreiter and Schmidhuber 1997) that reads an image row by row."""

from __future__ import annotations

from torch import Tensor, nn


class RowLSTM(nn.Module):
    """Two LSTM layers over the rows of ``(N, channels, H, width)``, logits ``(N, num_classes)``.

    Each row is one step; the last step's output is classified. 123 k parameters.
    """

    def __init__(
        self, channels: int = 1, num_classes: int = 10, width: int = 28, hidden: int = 96, layers: int = 2
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels * width, hidden, num_layers=layers, batch_first=True)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.lstm(x.transpose(1, 2).flatten(2))
        logits: Tensor = self.classifier(outputs[:, -1])
        return logits
