"""Small awkward architectures, one oddity each, on which every technique must work or refuse.

Each takes ``(N, 3, 8, 8)`` images and returns ``(N, 5)`` logits, as a Session wants it; those in
``UNUSUAL`` do not, and can only be compressed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

SHAPE = (3, 8, 8)
CLASSES = 5


class Concatenated(nn.Module):
    """Two branches of different width joined along the channels, and a skip from the input (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16))
        self.mix = nn.Conv2d(3 + 8 + 16, 16, 3, padding=1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((x, self.left(x).relu(), self.right(x).relu()), 1)
        return self.fc(self.mix(joined).relu().mean((2, 3)))


class Split(nn.Module):
    """Unequal parts of one convolution's output go different ways, and a gate multiplies two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.small = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first, gate, last = self.stem(x).split((8, 8, 8), 1)
        return self.fc(torch.cat((self.small(first) * gate.sigmoid(), last.relu()), 1).mean((2, 3)))


class Chunked(nn.Module):
    """A gated linear unit: the two chunks of one Linear multiply each other."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Linear(192, 64)
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x.flatten(1)).chunk(2, -1)
        return self.fc(value * gate.sigmoid())


class Reshaped(nn.Module):
    """Channels and positions flattened together into a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(4)
        self.fc = nn.Linear(16 * 4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.conv(x).relu()).reshape(x.shape[0], -1))


class Viewed(nn.Module):
    """What convolutions give, taken apart by ``view``, which PyTorch refuses in channels-last order."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.halves = nn.Conv2d(8, 8, 3)
        self.hidden = nn.Linear(8 * 14 * 6, 16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = self.halves(x.view(x.size(0), 8, 16, 8)).relu()
        return self.fc(self.hidden(x.view(x.size(0), -1)).relu())


class Shuffled(nn.Module):
    """A grouped convolution whose channels are shuffled between the groups (ShuffleNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.stem(x).relu())
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(self.depthwise(x).relu().mean((2, 3)))


class DepthMultiplier(nn.Module):
    """Depthwise convolutions with two outputs a channel, and groups that are neither one nor all."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 12, 3, padding=1, groups=3)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.grouped(self.norm(self.depthwise(x)).relu()).mean((2, 3)))


class Shared(nn.Module):
    """One convolution called twice, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.body
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x).relu()).relu()
        return self.fc(self.again(x).relu().mean((2, 3)))


class Tied(nn.Module):
    """Two Linears with one weight and biases of their own, and a decoder that uses it transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 192)
        self.second = nn.Linear(192, 192)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(192, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x.flatten(1)).relu())
        return self.fc(F.linear(x, self.first.weight.t()).tanh())


class Unused(nn.Module):
    """Layers, parameters and buffers that the forward pass never reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.left_over = nn.Linear(7, 9)
        self.nothing = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_parameter("absent", None)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class BareParameter(nn.Module):
    """A weight that no layer owns: learned features appended and a matrix multiplied by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.prompt = nn.Parameter(torch.randn(1, 4))
        self.mix = nn.Parameter(torch.randn(12, 12) / 4)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        return self.fc(torch.cat((x, self.prompt.expand(len(x), -1)), 1) @ self.mix)


class Optional(nn.Module):
    """A second input that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.scale = nn.Linear(2, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        return self.fc(x if extra is None else x * self.scale(extra))


class NonContiguous(nn.Module):
    """Weights stored transposed, channels-last, expanded and as a view of a larger tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.hidden = nn.Linear(8, 8)
        self.hidden.weight = nn.Parameter(torch.randn(8, 8).t() / 3)
        self.view = nn.Linear(8, 8)
        self.view.weight = nn.Parameter(torch.randn(16, 16)[::2, 1::2] / 3)
        self.fc = nn.Linear(8, CLASSES)
        self.fc.bias = nn.Parameter(torch.zeros(1).expand(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.view(self.hidden(self.conv(x).relu().mean((2, 3)))))


class Reparametrized(nn.Module):
    """Weight-normed (both ways), spectral-normed and orthogonal layers."""

    def __init__(self) -> None:
        super().__init__()
        self.old = weight_norm(nn.Conv2d(3, 8, 3))
        self.new = parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        self.spectral = parametrizations.spectral_norm(nn.Linear(8, 8))
        self.orthogonal = parametrizations.orthogonal(nn.Linear(8, 8))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.new(self.old(x).relu()).mean((2, 3))
        return self.fc(self.orthogonal(self.spectral(x).relu()))


class Rows(nn.Module):
    """Conv1d over the rows, transposed Conv1d back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(24, 16, 3, padding=1)
        self.norm = nn.BatchNorm1d(16)
        self.up = nn.ConvTranspose1d(16, 8, 2, stride=2)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.norm(self.conv(x.flatten(1, 2))).relu()).mean(2))


class Volume(nn.Module):
    """Conv3d and its transpose, channels taken for depth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.up = nn.ConvTranspose3d(8, 4, 2)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.norm(self.conv(x[:, None])).relu()).mean((2, 3, 4)))


class Hourglass(nn.Module):
    """Down and up again with transposed convolutions, one of them grouped, and a skip (U-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.middle = nn.ConvTranspose2d(16, 16, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Conv2d(8 + 3, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(self.middle(self.down(x).relu()).relu())
        return self.head(torch.cat((x, up), 1)).mean((2, 3))


class Normalized(nn.Module):
    """Every normalization and an activation with weights, around a residual connection and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.instance = nn.InstanceNorm2d(16, affine=True, track_running_stats=True)
        self.prelu = nn.PReLU(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.group = nn.GroupNorm(4, 16)
        self.squeeze = nn.Linear(16, 4)
        self.excite = nn.Linear(4, 16)
        self.layer = nn.LayerNorm(16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.instance(self.stem(x)))
        out = self.group(self.conv(x))
        gate = self.excite(self.squeeze(out.mean((2, 3))).relu()).sigmoid()
        return self.fc(self.layer((x + out * gate[:, :, None, None]).mean((2, 3))))


class Tokens(nn.Module):
    """Pixels as tokens: an Embedding with padding, and a bag of the rarer ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 12, padding_idx=0)
        self.bag = nn.EmbeddingBag(16, 12, mode="sum")
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x.flatten(1) * 4).long().clamp(-8, 7) + 8
        return self.fc(self.embed(tokens).mean(1) + self.bag(tokens) / 192)


class Recurrent(nn.Module):
    """LSTM both ways, GRU of two layers, plain RNN without biases, and a cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(24, 6, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 8, num_layers=2)
        self.rnn = nn.RNN(8, 8, bias=False, batch_first=True)
        self.cell = nn.GRUCell(8, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.lstm(x.transpose(1, 2).flatten(2))
        rows, _ = self.gru(rows.transpose(0, 1))
        rows, _ = self.rnn(rows.transpose(0, 1))
        state = rows.new_zeros(x.shape[0], 8)
        for row in range(rows.shape[1]):
            state = self.cell(rows[:, row], state)
        return self.fc(state)


class Projected(nn.Module):
    """An LSTM that projects its state, which the ONNX exporter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(24, 10, batch_first=True, proj_size=6)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1])


class FusedAttention(nn.Module):
    """MultiheadAttention with fused projections, then with widths of its own for keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.MultiheadAttention(24, 4, batch_first=True)
        self.mixed = nn.MultiheadAttention(24, 2, kdim=3, vdim=6, add_bias_kv=True)
        self.fc = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        rows = rows + self.fused(rows, rows, rows, need_weights=False)[0]
        pixels = x.flatten(2).permute(2, 0, 1)
        rows = self.mixed(rows.transpose(0, 1), pixels, torch.cat((pixels, pixels), 2))[0]
        return self.fc(rows.mean(0))


class Encoder(nn.Module):
    """PyTorch's own transformer layers, post-norm and pre-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.post = nn.TransformerEncoderLayer(24, 4, 32, dropout=0.1, batch_first=True)
        self.pre = nn.TransformerEncoderLayer(24, 2, 32, activation="gelu", norm_first=True, batch_first=True)
        self.fc = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pre(self.post(x.transpose(1, 2).flatten(2))).mean(1))


class WrittenAttention(nn.Module):
    """Attention by hand with three Linears and a fixed number of heads."""

    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        n, length, width = rows.shape
        split = (n, length, self.heads, width // self.heads)
        query, key, value = (part(rows).view(split).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, length, width)
        return self.fc(self.norm(rows + self.out(mixed)).mean(1))


class Branching(nn.Module):
    """Control flow that depends on the values: which expert runs, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.experts = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        expert = self.experts[int(x.mean() > 0)]
        for _ in range(3):
            x = expert(x).relu()
            if float(x.abs().max()) > 1:
                break
        return self.fc(x.mean((2, 3)))


class Sparse(nn.Module):
    """Weights that are all zero, all equal, or a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Conv2d(3, 8, 3, padding=1)
        self.equal = nn.Conv2d(3, 8, 3, padding=1)
        self.single = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(8, CLASSES)
        nn.init.zeros_(self.zero.weight)
        nn.init.constant_(self.equal.weight, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        x = self.zero(x) + self.equal(x)
        return self.fc((x + self.single(x.mean(1, keepdim=True))).mean((2, 3)))


class DictOutput(nn.Module):
    """A dictionary of outputs, one of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, CLASSES)
        self.box = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        x = self.conv(x).relu().mean((2, 3))
        return {"logits": self.fc(x), "boxes": [self.box(x)]}


class TupleOutput(nn.Module):
    """Two outputs at different depths (early exit)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.early = nn.Linear(8, CLASSES)
        self.deeper = nn.Conv2d(8, 8, 3)
        self.late = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x).relu()
        return self.early(x.mean((2, 3))), self.late(self.deeper(x).relu().mean((2, 3)))


class TwoInputs(nn.Module):
    """Two inputs that are both needed, at two places of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.context = nn.Linear(4, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)) * self.context(context).sigmoid())


class FilledIn(nn.Module):
    """The same with its second input filled in, as the refusal advises."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TwoInputs()
        self.register_buffer("context", torch.tensor([[1.0, -1.0, 0.5, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, self.context)


#: Image classifiers, which a Session takes.
CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "concat": Concatenated,
    "split": Split,
    "chunk": Chunked,
    "reshape": Reshaped,
    "view": Viewed,
    "shuffle": Shuffled,
    "depth_multiplier": DepthMultiplier,
    "shared": Shared,
    "tied": Tied,
    "unused": Unused,
    "bare_parameter": BareParameter,
    "optional_input": Optional,
    "two_inputs": FilledIn,
    "non_contiguous": NonContiguous,
    "reparametrized": Reparametrized,
    "conv1d": Rows,
    "conv3d": Volume,
    "transposed": Hourglass,
    "normalized": Normalized,
    "embedding": Tokens,
    "recurrent": Recurrent,
    "projected": Projected,
    "attention": FusedAttention,
    "encoder": Encoder,
    "written_attention": WrittenAttention,
    "control_flow": Branching,
    "degenerate": Sparse,
}
#: What can be compressed but not judged as a classifier.
UNUSUAL: dict[str, Callable[[], nn.Module]] = {"dict_output": DictOutput, "tuple_output": TupleOutput}


def build(name: str) -> nn.Module:
    """Return the architecture with the same random weights each time, its statistics not the defaults."""
    torch.manual_seed(0)
    module = {**CLASSIFIERS, **UNUSUAL}[name]()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module.eval()
