"""Which N:M pattern a recipe gives a layer, so that its groups can be marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.session import Session


def n_of_m(session: Session, layer: str, inputs: int) -> tuple[int, int] | None:
    """Return (N, M) of the last step that prunes ``layer`` so.

    None where no step does, or where M does not divide the layer's inputs: pruning leaves it out then.
    """
    names = [found.name for found in session.layers]
    for step in reversed(session.recipe.steps):
        settings = step.resolve(names).get(layer)
        if settings is not None and getattr(settings, "granularity", "") == "n:m":
            data = settings.model_dump()
            if data["ratio"] and inputs % data["m"] == 0:
                return int(data["n"]), int(data["m"])
    return None
