"""Multiply-accumulates of one call of a layer, by type; biases and element-wise work are not counted."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .fewer_heads import FewerHeads


def count_macs(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> int:
    """Return the multiply-accumulates of one call, from the shapes that went in and came out.

    Convolution: every output element sums ``C_in / groups × kernel`` products; transposed: every input
    element feeds ``C_out / groups × kernel``. Linear: ``in_features`` an output element. Recurrent:
    each weight matrix once a step. Attention: three projections in, one out, and two products of
    ``L × S × E``. An embedding looks up and multiplies nothing.
    """
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        given: Tensor = args[0] if args else kwargs["input"]
        return given.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return output.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        return _recurrent(layer, args[0] if args else kwargs["input"])
    if isinstance(layer, nn.MultiheadAttention):
        return _attention(layer, args, kwargs)
    return 0


def _recurrent(layer: nn.RNNBase | nn.RNNCellBase, given: Any) -> int:
    sequence = given.data if isinstance(given, nn.utils.rnn.PackedSequence) else given
    steps = sequence.numel() // layer.input_size
    return steps * sum(parameter.numel() for parameter in layer.parameters() if parameter.ndim == 2)


def _attention(layer: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    query, key, value = (
        args[index] if index < len(args) else kwargs[name] for index, name in enumerate(("query", "key", "value"))
    )
    width = layer.inner if isinstance(layer, FewerHeads) else layer.embed_dim
    projections = (query.numel() + key.numel() + value.numel()) * width + query.numel() * width
    sources = key.shape[1 if layer.batch_first else 0] if key.ndim == 3 else key.shape[0]
    mixed = query.numel() // layer.embed_dim * width
    return int(projections + 2 * mixed * sources)
