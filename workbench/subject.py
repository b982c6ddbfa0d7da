"""A model on a kind of image: what does not change while recipes do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.behaviour import behaviour_of
from workbench.models.channels import ChannelGraph
from workbench.models.check import missing_inputs
from workbench.models.layers import Layer, layers_of
from workbench.models.model import Model
from workbench.models.tensors import tensors_of
from workbench.models.tracing import Tracing


@dataclass(frozen=True, eq=False)
class Subject:
    """A model on a kind of image: what does not change while recipes do."""

    model: Model
    image_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    hash: str

    @classmethod
    def of(cls, model: Model, image_shape: tuple[int, ...]) -> Subject:
        """Return the subject for ``model`` on images of shape ``(C, H, W)``; the layers are measured once."""
        for problem in missing_inputs(model.module):
            raise WorkbenchError(problem)
        layers = layers_of(model.module, image_shape)
        if not layers:
            raise WorkbenchError(
                f"Model '{model.name}' has no layer with weights to compress "
                "(convolution, Linear, Embedding, recurrent or attention)."
            )
        return cls(model, image_shape, layers, model_hash(model.module))

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The uncompressed state dict, tied tensors once."""
        return tensors_of(self.model.module)

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """The model's modules by all the names they have."""
        return dict(self.model.module.named_modules(remove_duplicate=False))

    @cached_property
    def own_tensors(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the tensors that belong to each layer, its submodules' left out unless they hold a weight of it.

        A tensor that layers share belongs to the first of them.
        """
        names: dict[str, list[str]] = {}
        owners = {layer.name: layer.name for layer in self.layers}
        for layer in self.layers:  # an attention's projection out, say, is a module within it
            inner = {weight.rpartition(".")[0] for weight in layer.weights if weight.startswith(f"{layer.name}.")}
            owners = dict.fromkeys(inner, layer.name) | owners
        taken: set[str] = set()
        for layer in self.layers:
            names[layer.name] = [weight for weight in layer.weights if weight not in taken]
            taken.update(layer.weights)
        for tensor in self.tensors:
            owner = owners.get(tensor.rpartition(".")[0])
            if owner is not None and tensor not in taken:
                names[owner].append(tensor)
        return {layer: tuple(found) for layer, found in names.items()}

    @cached_property
    def tracing(self) -> Tracing:
        """What finds the channels that must be removed together."""
        return Tracing(self.model.module, self.image_shape)

    @property
    def channels(self) -> ChannelGraph:
        """The channels that must be removed together; traced when first asked for."""
        return self.tracing.now()

    @cached_property
    def dense_fp32_bytes(self) -> int:
        """Bytes of all parameters and buffers in float32, shared tensors once."""
        tensors = {tensor.data_ptr(): tensor for tensor in self.tensors.values()}
        return sum(4 * tensor.numel() for tensor in tensors.values())


def model_hash(module: nn.Module) -> str:
    """Return the first 16 hex digits of a SHA-256 over the architecture's text, all tensors and what else tells."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    for told in behaviour_of(module):
        digest.update(told)
    return digest.hexdigest()[:16]
