"""Data sets whose training images are made up, as the list of data sets names them: ``fashion_mnist+class_gan``.

Calibration and training learn from what was made, figures are still those of the real images; see
``workbench.train.synthetic``. Only data sets of the catalog have such names: a link that has one works elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.models.model import Model

SIGN = "+"


def base_of(name: Any) -> str:
    """Return the catalog's data set that ``name`` has other training images for; nothing where it is no such name."""
    from workbench.data.catalog import available_datasets

    base, sign, how = name.partition(SIGN) if isinstance(name, str) else ("", "", "")
    if not sign or base not in {entry.name for entry in available_datasets()}:
        return ""
    from workbench.train.synthetic.settings import Synthesis

    try:
        Synthesis.parse(how)
    except WorkbenchError:
        return ""
    return base


def made_from(name: str, data: Dataset, model: Model) -> Dataset:
    """Return ``data`` with the training images that ``name`` asks for, made with ``model`` where they are not kept.

    Raises ``WorkbenchError`` where they can't be made.
    """
    from workbench.train.synthetic import Synthesis, synthesizing

    return synthesizing(model, data, Synthesis.parse(name.partition(SIGN)[2])).result()


def made_names(data: str, model: Model) -> list[str]:
    """Return the names to offer beside the data set ``data``: what can be made for ``model``."""
    from workbench.data.catalog import available_datasets
    from workbench.train.synthetic.inversion import remembers

    base = base_of(data) or data
    if base not in {entry.name for entry in available_datasets()}:
        return []
    alone = "deepinversion" if any(map(remembers, model.module.modules())) else "impressions"
    return [f"{base}{SIGN}{source}" for source in (alone, "class_gan", "mixup")]
