"""Make a ``Dataset`` of the sets a loader found: check them, cut what is missing, normalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .checks import capital, encode_labels, shown, to_images, to_labels
from .cut import cut, repeats
from .dataset import Dataset, Normalization, Split, shown_shape
from .options import Options


@dataclass(frozen=True, eq=False)
class Part:
    """One set as it was found: ``images``, and ``labels`` or None, in any form ``checks`` understands."""

    images: object
    labels: object = None


def assemble(
    name: str,
    parts: Mapping[str, Part],
    options: Options,
    *,
    classes: Sequence[str] | None = None,
    source: str = "",
    notes: Sequence[str] = (),
) -> Dataset:
    """Return the dataset made of ``parts``: ``train``, ``validation`` and ``test``, or any of them.

    ``classes`` are the names that came with the data; those of ``options`` win. Raises
    ``WorkbenchError`` for images or labels that cannot be used, saying which and why.
    """
    name = shown(name)
    what = f"dataset '{name}'"
    images = {key: to_images(part.images, _what(what, key, parts)) for key, part in parts.items()}
    _require_one_shape(images, what)
    raw = {key: to_labels(part.labels, len(images[key]), _what(what, key, parts)) for key, part in parts.items()}
    labels, names = encode_labels(raw, options.classes or classes, what)
    found = {key: Split(key, images[key], labels[key]) for key in parts}
    remarks = [*notes, *_check_classes(found, names, what, declared=options.classes is not None)]
    if (options.classes or classes) is None:
        remarks += _counted_as_text(names)
    remarks += _without_labels(found, what)
    splits, said = cut(found, names, options, what)
    remarks += [*said, *repeats(splits), *_almost_black(splits["train"].images)]
    normalization, remark = _normalization(splits["train"].images, options, what)
    return Dataset(name, splits, names, normalization, source, (*remarks, remark))


def _what(what: str, key: str, parts: Mapping[str, Part]) -> str:
    return f"the {key} set of {what}" if len(parts) > 1 else what


def _require_one_shape(images: Mapping[str, Tensor], what: str) -> None:
    (first, reference), *others = images.items()
    for key, tensor in others:
        if tensor.shape[1:] != reference.shape[1:]:
            raise WorkbenchError(
                f"The {key} images of {what} are {shown_shape(tuple(tensor.shape[1:]))} "
                f"(channels×height×width) and the {first} images {shown_shape(tuple(reference.shape[1:]))}; "
                f"they must be alike."
            )
        if tensor.dtype != reference.dtype:
            raise WorkbenchError(
                f"The {key} images of {what} are {str(tensor.dtype)[6:]} and the {first} images "
                f"{str(reference.dtype)[6:]}; they must be alike."
            )


def _check_classes(found: Mapping[str, Split], names: tuple[str, ...], what: str, *, declared: bool) -> list[str]:
    """Raise for a class without images; where the person named the classes, return notes instead."""
    found = {key: split for key, split in found.items() if split.labelled}
    if found and len(names) < 2:
        raise WorkbenchError(f"{capital(what)} has only one class, '{names[0]}'; it takes two or more.")
    notes = []
    for key, split in found.items():
        empty = [names[i] for i in np.flatnonzero(np.bincount(split.labels, minlength=len(names)) == 0)]
        if not empty:
            continue
        where = f"the {key} set of {what}" if len(found) > 1 else what
        said = f"No image in {where} is of class {_listed(empty)}"
        if not declared:
            counted = names == tuple(map(str, range(len(names))))  # up to the highest label, which may be a wrong one
            known = f"labels go up to {len(names) - 1}; correct them," if counted else "the class is known;"
            raise WorkbenchError(
                f"{said}, although {known} add images or, if this is meant, name all classes with classes=."
            )
        notes.append(f"{said}.")
    return notes


def _without_labels(found: Mapping[str, Split], what: str) -> list[str]:
    bare = [key for key, split in found.items() if not split.labelled]
    if not bare:
        return []
    where = f"the {' and '.join(bare)} images of {what}" if len(bare) < len(found) else f"the images of {what}"
    return [f"{capital(where)} have no labels: how often a model answers as before can be told, not how often rightly."]


def _counted_as_text(names: tuple[str, ...]) -> list[str]:
    """Say so where classes are called by numbers and stand in another order: a model may count them by these."""
    if not all(name.isdecimal() for name in names) or list(names) == sorted(names, key=int):
        return []
    first = next(place for place, name in enumerate(names) if name != sorted(names, key=int)[place])
    return [
        f"The classes are numbered by their names as text, so that '{names[first]}' is class {first}: where the model "
        "counts them as numbers, write them with leading zeros, or name them in its order with classes=."
    ]


def _normalization(train: Tensor, options: Options, what: str) -> tuple[Normalization, str]:
    channels = train.shape[1]
    if options.normalization is not None:
        given = options.normalization
        if len(given.mean) not in (1, channels):
            raise WorkbenchError(
                f"The normalisation has {counted(len(given.mean), 'channel')} and the images of {what} have {channels}."
            )
        return given, f"Normalisation as given: {given}."
    if train.dtype == torch.uint8:
        computed = Normalization.of(train)
        return computed, f"Normalisation computed from train: {computed}."
    # Floats come out of somebody's own preprocessing, and their model was trained on just that.
    low, high = float(train.min()), float(train.max())
    return Normalization.identity(channels), (
        f"Images are floats from {low:.3g} to {high:.3g} and are used as they are; pass normalization= to change that."
    )


def _almost_black(train: Tensor) -> list[str]:
    """Say so where whole numbers up to 1 were probably meant as all there is of light."""
    if train.dtype != torch.uint8 or int(train.max()) != 1:
        return []
    return ["Pixels are whole numbers up to 1, of 255: where 1 means white, give them as floats or multiply by 255."]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more
