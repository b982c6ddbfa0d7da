"""StableHLO, the language of XLA: exported by JAX, compiled and run by XLA on this CPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.run.blame import layer_of, operator_of
from workbench.run.runner import Runner

from .calling import CallRunner
from .format import Format, FormatError, Source
from .jax_operators import operators
from .limits import floats_in
from .torch_program import export_program


class StableHlo(Format):
    """fp32, one image a run."""

    name, title, suffix = "stablehlo", "StableHLO (XLA)", ".stablehlo"
    summary = "StableHLO exported by JAX, compiled by XLA for CPU or TPU, one image a run"
    runtime, distribution, extra = "jax", "jax", "jax"
    modules = ("jax",)
    varies = "JAX notes which lines made each operation, and in which folder they are installed"

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "StableHLO")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Carry the traced program over to JAX and export it for CPU and TPU."""
        import jax
        from jax import export

        function = _in_jax(export_program(source, 1).run_decompositions(), source.stem)
        path = self.path(source, folder)
        image = jax.ShapeDtypeStruct((1, *source.subject.image_shape), "float32")
        try:
            exported = export.export(jax.jit(function), platforms=["cpu", "tpu"])(image)
        except (NotImplementedError, TypeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise FormatError(f"JAX cannot express '{source.stem}' ({reason}): export it as ONNX.") from error
        path.write_bytes(exported.serialize())
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Compile it for this CPU; XLA chooses its threads itself."""
        import jax
        import numpy as np
        from jax import export

        compiled = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

        def call(image: Tensor) -> Any:
            return np.asarray(compiled(image.numpy()))

        return CallRunner(self.runtime, call, one_by_one=True)


def _in_jax(program: torch.export.ExportedProgram, stem: str) -> Any:
    """Return the program as a function on JAX arrays; raises ``FormatError`` naming an operator it has not."""
    import jax.numpy as jnp

    known, signature = operators(), program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    stored = {
        name: jnp.asarray(tensors[target].detach().numpy())
        for place in (
            signature.inputs_to_parameters,
            signature.inputs_to_buffers,
            signature.inputs_to_lifted_tensor_constants,
        )
        for name, target in place.items()
    }
    for node in program.graph.nodes:
        if node.op == "call_function" and operator_of(node) not in {*known, "getitem"}:
            raise FormatError(
                f"StableHLO export has no operator {operator_of(node)}, which '{stem}' uses in layer "
                f"'{layer_of(node)}': "
                "replace it there, or export as onnx, openvino or torch."
            )

    def function(image: Any) -> Any:
        values: dict[Any, Any] = {}

        def value(argument: Any) -> Any:
            if isinstance(argument, torch.fx.Node):
                return values[argument]
            return [value(each) for each in argument] if isinstance(argument, list | tuple) else argument

        for node in program.graph.nodes:
            if node.op == "placeholder":
                values[node] = stored.get(node.name, image)
            elif node.op == "output":
                return value(node.args[0])[0]
            elif operator_of(node) == "getitem":
                values[node] = values[node.args[0]][node.args[1]]
            else:
                given = {name: value(each) for name, each in node.kwargs.items()}
                values[node] = known[operator_of(node)](*(value(each) for each in node.args), **given)
        return None

    return function
