"""State dict files: read without unpickling, and fitted into an architecture.

A ``.pt`` file is a zip of a pickle, and a pickle can run any code while it is read. Only
``torch.load(weights_only=True)`` is used, which builds tensors and plain containers and refuses all
else; a ``.safetensors`` file holds nothing but tensors.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .model import ModelError, listed
from .tensors import tied_names

#: Where training scripts nest the state dict inside a checkpoint.
_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "params", "weights")
#: What wrappers put before every name: DataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file by name, on the CPU.

    Raises ``ModelError`` for a file that is damaged, is not what its name says, or holds anything
    that would have to be unpickled.
    """
    content = _content(path)
    safe = path.suffix == ".safetensors"
    if safe and content == "a torch file":
        raise ModelError(f"{path} is {content} by its content: rename it to {path.stem}.pt.")
    if not safe and content == "a safetensors file":
        raise ModelError(f"{path} is {content} by its content: rename it to {path.stem}.safetensors.")
    return _read_safetensors(path) if safe else _read_torch(path)


def fit_state_dict(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    """Load ``tensors`` into ``module`` (which is changed) and return notes on what was adapted.

    Names and shapes must match exactly, save for a wrapper's prefix and BatchNorm's counters. Raises
    ``ModelError`` naming the first that don't.
    """
    own = module.state_dict()
    tensors, notes = _strip_prefix(tensors, own)
    tied = tied_names(module)
    given = {tied.get(name, name) for name in tensors}  # of tied tensors, files may keep any one name
    missing = [name for name in own if tied.get(name, name) not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f"'{name}' is {_shape(tensors[name])} in the file and {_shape(own[name])} in the architecture"
        for name in own
        if name in tensors and _shape(tensors[name]) != _shape(own[name])
    ]
    kinds = [
        f"'{name}' is {_kind(tensors[name])} in the file and {_kind(own[name])} in the architecture"
        for name in own
        if name in tensors and tensors[name].is_floating_point() != own[name].is_floating_point()
    ]
    problems = [f"missing {_quoted(missing)}"] if missing else []
    problems += [f"unexpected {_quoted(unexpected)}"] if unexpected else []
    problems += [listed(shapes, 2)] if shapes else []
    problems += [listed(kinds, 2)] if kinds else []
    if problems:
        raise ModelError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Give the architecture the weights were saved from."
        )
    module.load_state_dict(dict(tensors), strict=False)
    odd = sorted({_kind(value) for value in tensors.values() if value.is_floating_point()} - {"float32"})
    return notes + ((f"Weights in {listed(odd)} were converted to float32.",) if odd else ())


def fits(module: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether names and shapes are those of ``module``."""
    own = module.state_dict()
    tensors, _ = _strip_prefix(tensors, own)
    return tensors.keys() == own.keys() and all(_shape(tensors[name]) == _shape(own[name]) for name in own)


def _content(path: Path) -> str:
    """Return what the first bytes say the file is, whatever its name."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[:4] == b"PK\x03\x04":
        return "a torch file"
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file"
    return "unknown"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type torch does not have
        raise ModelError(
            f"{path} is not a sound safetensors file ({_first_line(error)}): it may be truncated; "
            "save or copy it again."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # of pickle protocols, which say nothing to the person
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(_refusal(path, str(error))) from error
    except Exception as error:  # torch raises many kinds for damaged files
        if "TorchScript" in str(error):
            raise ModelError(_refusal(path, str(error))) from error
        reason = _first_line(error)
        known = f" ({reason})" if " " in reason else ""  # unpicklers tell of a byte by its number alone
        raise ModelError(
            f"{path} is not a sound torch file{known}: it may be truncated; save or copy it again."
        ) from error
    tensors = _tensors(loaded)
    if not tensors:
        raise ModelError(f"{path} holds no state dict: save model.state_dict(), names to tensors, into it.")
    return tensors


def _refusal(path: Path, message: str) -> str:
    advice = "save model.state_dict() instead (best as .safetensors) and give the architecture"
    if "TorchScript" in message:
        return f"{path} is a TorchScript program, not a state dict, and programs are not opened: {advice}."
    found = re.search(r"(?:GLOBAL|class|function)\s+(\w+(?:\.\w+)+)", message)
    held = found[1] if found else ""
    what = f"the Python object {held}" if held else "Python objects"
    return (
        f"{path} holds {what} besides tensors, which can run any code while it is read, so it was not opened: {advice}."
    )


def _tensors(loaded: Any) -> dict[str, Tensor]:
    """Return the state dict in what was loaded: itself, or nested one level down."""
    if not isinstance(loaded, Mapping):
        return {}
    if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        return {str(name): value.detach() for name, value in loaded.items()}
    for nest in _NESTS:
        if isinstance(loaded.get(nest), Mapping):
            return _tensors(loaded[nest])
    return {}


def _strip_prefix(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            stripped = {name.removeprefix(prefix): value for name, value in tensors.items()}
            if len(stripped.keys() & own.keys()) > len(tensors.keys() & own.keys()):
                return stripped, (f"The prefix '{prefix}' of the file's tensor names was dropped.",)
    return tensors, ()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _quoted(names: list[str]) -> str:
    return listed([f"'{name}'" for name in names], 3)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
