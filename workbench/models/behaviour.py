"""What a model does that neither its architecture's text nor its tensors tell: code, plain attributes, constants.

Two models may have the same layers and weights and answer differently, since the code of their classes or a number
beside the layers differs. Classes of the zoo, torchvision and timm are told apart by their text already, and models
of theirs are known by it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn

#: Packages whose classes do the same for everyone.
KNOWN = ("torch", "torchvision", "timm", "workbench")
#: What every module has.
_COMMON = vars(nn.Module()).keys()
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def behaviour_of(module: nn.Module) -> Iterator[bytes]:
    """Yield what tells ``module`` from others of the same text and tensors; nothing where those tell all."""
    kind = type(module)
    whole = _is_known(kind) and (_package(kind) != "torch" or isinstance(module, fx.GraphModule))
    told: set[type] = set()
    for name, part in module.named_modules():
        own = not _is_known(type(part))
        for base in type(part).__mro__ if own else ():
            if base not in told and base is not object and not _is_known(base):
                told.add(base)
                yield from _values(f"class {base.__qualname__}", vars(base))
        # a class of torch tells its settings in the text, or keeps them to itself: attention its heads
        if own or (not whole and type(part).extra_repr is nn.Module.extra_repr):
            given = {attribute: value for attribute, value in vars(part).items() if attribute not in _COMMON}
            hidden = {buffer: part._buffers[buffer] for buffer in sorted(part._non_persistent_buffers_set)}
            yield from _values(name, given | hidden)


def _is_known(kind: type) -> bool:
    return _package(kind) in KNOWN


def _package(kind: type) -> str:
    return kind.__module__.split(".")[0]


def _values(name: str, values: Any) -> Iterator[bytes]:
    """Yield what is known of ``values``, by their names; what is neither data nor a function is left out."""
    for attribute, value in sorted(values.items()):
        held = getattr(value, "__func__", getattr(value, "fget", value))  # of methods of the class, and properties
        if isinstance(held, FunctionType):
            yield f"{name}.{attribute}\n{_source(held)}".encode()
        elif attribute.startswith("__"):
            continue  # what Python keeps of a class
        elif isinstance(held, Tensor):
            yield f"{name}.{attribute} {tuple(held.shape)} {held.dtype}".encode()
            if held.layout == torch.strided and not (held.is_meta or held.is_quantized):
                yield held.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        elif _is_plain(held):
            yield f"{name}.{attribute} {held!r}".encode()


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple | list) else isinstance(value, _PLAIN)


def _source(function: FunctionType) -> str:
    """Return a function's text, which notebooks keep too; what it compiled to where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        constants = [constant for constant in code.co_consts if _is_plain(constant)]
        return f"{code.co_code.hex()} {constants} {code.co_names}"
