"""``nn.MultiheadAttention`` with some of its heads taken out.

PyTorch's module insists that its heads fill the embedding. This one keeps the module's tensors and names,
and computes the same from the heads that are left.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FewerHeads(nn.MultiheadAttention):
    """Attention whose projections have ``3 × inner`` rows and ``inner`` columns, ``inner`` ≤ ``embed_dim``.

    ``kept`` numbers the heads that are left as the original did, for masks that differ between heads.
    """

    kept: tuple[int, ...]

    @property
    def inner(self) -> int:
        """Features of all heads together."""
        return int(len(self.kept) * self.head_dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values, and the weights where they are asked for, as ``nn.MultiheadAttention`` does."""
        batched = query.ndim == 3
        given = [part if batched else part.unsqueeze(0 if self.batch_first else 1) for part in (query, key, value)]
        if not self.batch_first:
            given = [part.transpose(0, 1) for part in given]
        weights = self.in_proj_weight.split(self.inner)
        bias = self._parameters["in_proj_bias"]
        biases = [None] * 3 if bias is None else bias.split(self.inner)
        q, k, v = (
            F.linear(part, weight, own).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part, weight, own in zip(given, weights, biases, strict=True)
        )
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        scores = self._masked(scores, attn_mask, key_padding_mask)
        mixing = F.dropout(scores.softmax(-1), self.dropout, self.training)
        output: Tensor = self.out_proj((mixing @ v).transpose(1, 2).flatten(2))
        output = output if self.batch_first else output.transpose(0, 1)
        shown = mixing.mean(1) if average_attn_weights else mixing
        if not batched:
            output, shown = output.squeeze(0 if self.batch_first else 1), shown.squeeze(0)
        return output, shown if need_weights else None

    def _masked(self, scores: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor:
        if attn_mask is not None:
            if attn_mask.ndim == 3:  # one for each image and original head
                attn_mask = attn_mask.unflatten(0, (len(scores), -1))[:, list(self.kept)]
            scores = scores + _additive(attn_mask, scores)
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, scores)
            scores = scores + (padding[:, None, None] if padding.ndim == 2 else padding)
        return scores


def takes_fewer_heads(module: nn.Module) -> bool:
    """Whether heads of ``module`` can be taken out."""
    if type(module) not in (nn.MultiheadAttention, FewerHeads):
        return False
    tensors = module._parameters
    return tensors["in_proj_weight"] is not None and tensors.get("bias_k") is None and not module.add_zero_attn


def keep_heads(module: nn.MultiheadAttention, rows: Tensor) -> None:
    """Keep the heads to which ``rows`` of the input projection belong, in place; the values stay as they are."""
    inner = len(module.in_proj_weight) // 3
    columns = rows[rows < inner]
    before = module.kept if isinstance(module, FewerHeads) else tuple(range(module.num_heads))
    heads = [int(place) for place in columns[:: module.head_dim] // module.head_dim]
    for owner, name, axis, keep in (
        (module, "in_proj_weight", 0, rows),
        (module, "in_proj_bias", 0, rows),
        (module.out_proj, "weight", 1, columns),
    ):
        tensor = getattr(owner, name)
        if tensor is not None:
            kept = tensor.detach().index_select(axis, keep)
            setattr(owner, name, nn.Parameter(kept, requires_grad=tensor.requires_grad))
    module.__class__ = FewerHeads
    module.kept = tuple(before[head] for head in heads)  # type: ignore[assignment]
    module.num_heads = len(heads)
    module.out_proj.in_features = len(columns)
    module._qkv_same_embed_dim = False  # keeps nn.TransformerEncoderLayer from its fused path


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill(mask, -torch.inf)
