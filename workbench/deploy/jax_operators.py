"""PyTorch's core operators in JAX, for models that XLA compiles: what a traced program of images needs.

Each entry takes the operator's arguments, tensors as JAX arrays, and returns what the operator returns.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

Function = Callable[..., Any]


def operators() -> dict[str, Function]:
    """Return the name of an operator of ``torch.ops.aten`` → its function on JAX arrays."""
    import jax
    import jax.numpy as jnp

    return {
        "_native_batch_norm_legit_no_training": _norm,
        "_softmax": lambda x, axis, half: jax.nn.softmax(x, axis),
        "_log_softmax": lambda x, axis, half: jax.nn.log_softmax(x, axis),
        "_to_copy": _unchanged,
        "abs": jnp.abs,
        "add": lambda x, y, alpha=1: x + alpha * y,
        "addmm": _addmm,
        "alias": _unchanged,
        "amax": lambda x, axes=(), keep=False: x.max(tuple(axes) or None, keepdims=keep),
        "amin": lambda x, axes=(), keep=False: x.min(tuple(axes) or None, keepdims=keep),
        "avg_pool2d": _average_pool,
        "bmm": lambda x, y: x @ y,
        "cat": lambda xs, axis=0: jnp.concatenate(xs, axis),
        "clamp": lambda x, low=None, high=None: jnp.clip(x, low, high),
        "clone": _unchanged,
        "convolution": _convolution,
        "div": lambda x, y: x / y,
        "erf": jax.scipy.special.erf,
        "exp": jnp.exp,
        "expand": _expand,
        "full": _full,
        "gelu": lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate != "none"),
        "hardtanh": lambda x, low=-1.0, high=1.0: jnp.clip(x, low, high),
        "leaky_relu": lambda x, slope=0.01: jax.nn.leaky_relu(x, slope),
        "log": jnp.log,
        "max_pool2d_with_indices": _max_pool,
        "mean": _mean,
        "mm": lambda x, y: x @ y,
        "mul": lambda x, y: x * y,
        "native_layer_norm": _layer_norm,
        "neg": operator.neg,
        "permute": lambda x, axes: x.transpose(axes),
        "pow": lambda x, y: x**y,
        "relu": jax.nn.relu,
        "round": jnp.round,
        "rsqrt": jax.lax.rsqrt,
        "select": lambda x, axis, place: jnp.take(x, place, axis),
        "sigmoid": jax.nn.sigmoid,
        "slice": _piece,
        "split_with_sizes": _split,
        "sqrt": jnp.sqrt,
        "squeeze": lambda x, axes: x.squeeze(tuple(a for a in _many(axes) if x.shape[a] == 1)),
        "sub": lambda x, y, alpha=1: x - alpha * y,
        "tanh": jnp.tanh,
        "unsqueeze": jnp.expand_dims,
        "view": lambda x, shape: x.reshape(shape),
    }


def _norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, epsilon: float) -> Any:
    import jax.numpy as jnp

    shape = (1, -1, *[1] * (x.ndim - 2))
    scaled = (x - mean.reshape(shape)) / jnp.sqrt(variance.reshape(shape) + epsilon)
    return (_affine(scaled, weight, bias, shape),)


def _layer_norm(x: Any, shape: Sequence[int], weight: Any, bias: Any, epsilon: float) -> Any:
    import jax.numpy as jnp

    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (_affine((x - mean) / jnp.sqrt(variance + epsilon), weight, bias, tuple(shape)),)


def _addmm(bias: Any, x: Any, y: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return beta * bias + alpha * (x @ y)


def _piece(x: Any, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    places: list[Any] = [slice(None)] * x.ndim
    places[axis] = slice(start, end, step)
    return x[tuple(places)]


def _split(x: Any, sizes: Sequence[int], axis: int = 0) -> Any:
    import jax.numpy as jnp

    edges = [sum(sizes[: place + 1]) for place in range(len(sizes) - 1)]
    return jnp.split(x, edges, axis)


def _full(shape: Sequence[int], value: float, **_: Any) -> Any:
    import jax.numpy as jnp

    return jnp.full(shape, value, jnp.float32)


def _expand(x: Any, sizes: Sequence[int], **_: Any) -> Any:
    import jax.numpy as jnp

    shape = [x.shape[place - len(sizes)] if size == -1 else size for place, size in enumerate(sizes)]
    return jnp.broadcast_to(x, shape)


def _mean(x: Any, axes: Any = None, keep: bool = False, **_: Any) -> Any:
    return x.mean(None if axes is None else tuple(axes), keepdims=keep)


def _unchanged(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _affine(x: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    scaled = x if weight is None else x * weight.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)


def _many(value: Any) -> Sequence[int]:
    return value if isinstance(value, list | tuple) else (value,)


def _pair(value: Sequence[int], default: Sequence[int] = ()) -> tuple[int, ...]:
    chosen = list(value) or list(default)
    return tuple(chosen * 2 if len(chosen) == 1 else chosen)


def _convolution(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, _: Any, groups: int
) -> Any:
    from jax import lax

    if transposed:
        raise NotImplementedError("transposed convolution")
    pads = [(pad, pad) for pad in padding]
    found = lax.conv_general_dilated(x, weight, stride, pads, rhs_dilation=dilation, feature_group_count=groups)
    return found if bias is None else found + bias.reshape(1, -1, *[1] * (x.ndim - 2))


def _max_pool(x: Any, size: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), ceil: Any = False) -> Any:
    import jax.numpy as jnp
    from jax import lax

    window, strides = _pair(size), _pair(stride, size)
    pads = _pads(x, window, strides, _pair(padding), _pair(dilation), ceil)
    whole = (1, 1, *_pair(dilation))
    return (lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *window), (1, 1, *strides), pads, None, whole),)


def _average_pool(
    x: Any, size: Any, stride: Any = (), padding: Any = (0,), ceil: Any = False, padded: bool = True, by: Any = None
) -> Any:
    from jax import lax

    if ceil or by is not None or (any(_pair(padding)) and not padded):
        raise NotImplementedError("average pooling that does not divide by the size of its window")
    window, strides = _pair(size), _pair(stride, size)
    pads = _pads(x, window, strides, _pair(padding), (1, 1), False)
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, *window), (1, 1, *strides), pads) / (window[0] * window[1])


def _pads(x: Any, window: Any, strides: Any, padding: Any, dilation: Any, ceil: bool) -> list[tuple[int, int]]:
    """Return what is put around each axis; rounding sizes up asks for more at the end."""
    pads = [(0, 0), (0, 0)]
    for length, size, step, pad, gap in zip(x.shape[2:], window, strides, padding, dilation, strict=True):
        rest = (length + 2 * pad - gap * (size - 1) - 1) % step
        pads.append((pad, pad + (step - rest if ceil and rest else 0)))
    return pads
