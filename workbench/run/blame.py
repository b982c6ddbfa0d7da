"""Which layer calls the operator that an exporter could not express: exporters name the one, seldom the other."""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from workbench.symbolic import tracing


def operator_of(node: torch.fx.Node) -> str:
    """Return ``convolution`` for a call of ``aten.convolution.default``."""
    return str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))


def layer_of(node: torch.fx.Node) -> str:
    """Return the name of the module in which a node was traced."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((name for name, _ in reversed(list(stack.values()))), "") or "the model itself"


def blamed(program: torch.export.ExportedProgram, said: str) -> str:
    """Return the operator of ``program`` that an exporter's words name, and its layer; empty where they name none.

    >>> program = torch.export.export(nn.Sequential(nn.Sigmoid()), (torch.zeros(2),))
    >>> blamed(program, "Lowering not found: aten.sigmoid.default")
    "sigmoid in layer '0'"
    """
    named = {first or second for first, second in re.findall(r"aten(?:::|\.)(\w+)|(\w+)\.default", said)}
    for node in program.graph.nodes:
        if node.op == "call_function" and operator_of(node) in named:
            return f"{operator_of(node)} in layer '{layer_of(node)}'"
    return ""


def blamed_in(module: nn.Module, example: Tensor, said: str) -> str:
    """Return ``blamed`` of ``module``, traced for it; empty also where it cannot be traced."""
    if "aten" not in said:
        return ""
    try:
        with warnings.catch_warnings(), torch.no_grad(), tracing():
            warnings.simplefilter("ignore")
            return blamed(torch.export.export(module, (example,)), said)
    except Exception:  # whatever the person's code raises under tracing: then only the exporter's words are told
        return ""
