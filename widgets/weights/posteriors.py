"""The posterior of a layer's weights, where training found one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.measure.posterior import PosteriorSummary, summarize_posterior

if TYPE_CHECKING:
    from workbench.session import Session


def has_posterior(session: Session) -> bool:
    """Whether training found a posterior of any layer of the present model."""
    return bool(session.compressed.posteriors)


def posterior_of(session: Session, layer: str) -> PosteriorSummary:
    """Return what is drawn of the layer's posterior; raises ``WorkbenchError`` where there is none."""
    compressed = session.compressed
    weight = next(found.weight for found in session.layers if found.name == layer)
    posterior = compressed.posteriors.get(weight)
    if posterior is None:
        raise WorkbenchError(
            f"No distribution is known of the weights of '{layer}': train sparsify_bayesian on it, and put no other "
            "training behind it."
        )
    return summarize_posterior(layer, posterior.mean, posterior.variance, compressed.tensors[weight])
