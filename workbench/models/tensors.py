"""A module's tensors by name, tied ones once.

``nn.Module.state_dict`` lists a tied tensor under each of its names. Whatever is done to it must be done
once and stored once, so here it goes by the name it was first registered under.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def tied_names(module: nn.Module) -> dict[str, str]:
    """Return each further name of a tied tensor → the name it goes by."""
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        known = first.setdefault(id(tensor), name)
        if known != name:
            tied[name] = known
    return tied


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict, detached, without the further names of tied tensors."""
    tied = tied_names(module)
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in tied}


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put ``tensors`` into ``module``; the further names of tied ones may be left out.

    Raises ``RuntimeError``, as ``load_state_dict`` does, for names or shapes that do not fit.
    """
    missing, unexpected = module.load_state_dict(dict(tensors), strict=False)
    tied = tied_names(module)
    absent = [name for name in missing if name not in tied]
    if absent or unexpected:
        parts = (("missing", absent), ("unexpected", unexpected))
        raise RuntimeError("; ".join(f"{what} {', '.join(names[:3])}" for what, names in parts if names))
