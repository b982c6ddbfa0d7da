"""Bring whatever was given as images and labels into one form, or say in a sentence what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .dataset import UNLABELLED, shown_shape


def to_images(given: object, what: str) -> Tensor:
    """Return contiguous uint8 (0..255) or float32 images ``(N, C, H, W)``, detached, on the CPU.

    Takes ``(N, H, W)``, ``(N, C, H, W)`` and ``(N, H, W, C)`` with 1, 3 or 4 channels at the end (and
    another number in second place); integers of any width within 0..255; any float, as it is.
    """
    images = _as_tensor(given, what)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim != 4:
        raise WorkbenchError(
            f"The images of {what} have shape {tuple(images.shape)}; they must be (images, height, width) "
            f"or (images, channels, height, width)."
        )
    if images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        images = images.permute(0, 3, 1, 2)
    if images.numel() == 0:
        raise WorkbenchError(f"{capital(what)} has no images (shape {tuple(images.shape)}).")
    return _as_pixels(images, what).contiguous()


def to_labels(given: object, count: int, what: str) -> NDArray[Any]:
    """Return ``count`` labels as int64 numbers or as strings; all ``UNLABELLED`` where none were given.

    Floats, one-hot rows, labels for some of the images and a number of labels other than ``count`` are refused.
    """
    if given is None:
        return np.full(count, UNLABELLED, np.int64)
    labels = np.asarray(_plain(given) if isinstance(given, Tensor) else given)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise WorkbenchError(
            f"The labels of {what} have shape {labels.shape}; give one class number an image (for one-hot "
            f"rows, their argmax)."
        )
    if len(labels) != count:
        raise WorkbenchError(f"{capital(what)} has {counted(count, 'image')} but {counted(len(labels), 'label')}.")
    if labels.dtype.kind == "O":
        labels = _of_objects(labels, what)
    if labels.dtype.kind in "US":
        return as_text(labels)
    if labels.dtype.kind not in "iub":
        raise WorkbenchError(
            f"The labels of {what} are {labels.dtype}; give whole class numbers from 0, or class names."
        )
    return labels.astype(np.int64)


def as_text(names: NDArray[Any]) -> NDArray[np.str_]:
    """Return strings or bytes as strings; bytes are UTF-8, and what is not is written as ``\\xe9``."""
    if names.dtype.kind == "S":
        return np.asarray(np.char.decode(names, "utf-8", "backslashreplace"), np.str_)
    return names.astype(str)


def encode_labels(
    given: Mapping[str, NDArray[Any]], classes: Sequence[str] | None, what: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the labels of each set as numbers ``0..classes-1``, and the class names.

    Names not given are the sorted strings where labels are strings, else ``"0"``, ``"1"``, ... Sets without labels
    stay so; where there are no others, the names are those given, or none.
    """
    bare = {part: torch.from_numpy(labels) for part, labels in given.items() if is_unlabelled(labels)}
    if bare:
        rest = {part: labels for part, labels in given.items() if part not in bare}
        found, names = encode_labels(rest, classes, what) if rest else ({}, tuple(classes or ()))
        return {part: bare[part] if part in bare else found[part] for part in given}, names
    textual = {labels.dtype.kind == "U" for labels in given.values()}
    if len(textual) > 1:
        raise WorkbenchError(f"{capital(what)} labels one set with numbers and another with names; choose one.")
    if textual == {True}:
        return _encode_names(given, classes, what)
    highest = max(int(labels.max()) for labels in given.values())
    total = sum(len(labels) for labels in given.values())
    if classes is None and highest >= total:
        raise WorkbenchError(
            f"Label {highest} in {what} would make more classes than the {total:,} images; number the classes from 0."
        )
    names = tuple(classes) if classes is not None else tuple(str(number) for number in range(highest + 1))
    for part, labels in given.items():
        outside = labels[(labels < 0) | (labels >= len(names))]
        if len(outside):
            raise WorkbenchError(
                f"Label {outside[0]} in the {part} set of {what} is outside 0..{len(names) - 1} "
                f"({len(names)} classes); {len(outside):,} of {len(labels):,} labels are."
            )
    return {part: torch.from_numpy(labels) for part, labels in given.items()}, names


def _of_objects(labels: NDArray[Any], what: str) -> NDArray[Any]:
    """Return labels that are Python objects as strings where they are, as ``UNLABELLED`` where all of them are None."""
    missing = sum(label is None for label in labels)
    if 0 < missing < len(labels):
        raise WorkbenchError(
            f"{missing:,} of {len(labels):,} images of {what} have no label; give all of them one, or none."
        )
    if missing:
        return np.full(len(labels), UNLABELLED, np.int64)
    return labels.astype(str) if all(isinstance(label, str) for label in labels) else labels


def is_unlabelled(labels: NDArray[Any]) -> bool:
    """Whether ``labels`` say that no image has one."""
    return labels.dtype.kind == "i" and bool((labels == UNLABELLED).all())


def require_memory(nbytes: int, what: str) -> None:
    """Raise ``WorkbenchError`` when ``nbytes`` would not fit into half of this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
    if nbytes > memory // 2:
        raise WorkbenchError(
            f"{capital(what)} would take {nbytes / 2**30:,.1f} GiB of memory, more than half of this "
            f"machine's {memory / 2**30:,.1f} GiB; load a part of it, or smaller images."
        )


def shown(path: object) -> str:
    """Return a path as text that can always be printed, also where its name is not valid UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _encode_names(
    given: Mapping[str, NDArray[Any]], classes: Sequence[str] | None, what: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    present = sorted({str(name) for labels in given.values() for name in np.unique(labels)})
    names = tuple(classes) if classes is not None else tuple(present)
    unknown = [name for name in present if name not in names]
    if unknown:
        raise WorkbenchError(
            f"{capital(what)} has images of class '{unknown[0]}', which is not among the classes given: "
            f"{', '.join(names[:10])}."
        )
    number = {name: index for index, name in enumerate(names)}
    encoded = {
        part: torch.tensor([number[str(label)] for label in labels], dtype=torch.int64)
        for part, labels in given.items()
    }
    return encoded, names


def _as_tensor(given: object, what: str) -> Tensor:
    if isinstance(given, Tensor):
        return _plain(given)
    if isinstance(given, (list, tuple)):
        return _stack(given, what)
    array = np.asarray(given)
    if array.dtype.kind not in "iufb":
        raise WorkbenchError(f"The images of {what} are {array.dtype}; they must be numbers.")
    if array.dtype.itemsize > 1 and array.dtype.kind == "u":
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # torch has no longer floats
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array))


def _plain(given: Tensor) -> Tensor:
    """Return a tensor on the CPU, of a type that torch computes with and NumPy knows."""
    given = given.detach().cpu()
    if given.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return given.to(torch.int64)
    return given.float() if given.is_floating_point() and given.dtype != torch.float64 else given


def _stack(images: Sequence[object], what: str) -> Tensor:
    tensors = [_as_tensor(image, what) for image in images]
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise WorkbenchError(
            f"The images of {what} differ in size ({shown_shape(shapes[0])} and {shown_shape(shapes[1])}); "
            f"bring them to one size."
        )
    if not tensors:
        raise WorkbenchError(f"{capital(what)} has no images.")
    return torch.stack(tensors)


def _as_pixels(images: Tensor, what: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if images.is_floating_point():
        images = images.float()
        bad = int((~images.isfinite()).flatten(1).any(1).sum())
        if bad:
            raise WorkbenchError(f"{bad:,} of {len(images):,} images of {what} contain NaN or infinite values.")
        return images
    if images.is_complex():
        raise WorkbenchError(f"The images of {what} are complex numbers; they must be real.")
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        raise WorkbenchError(
            f"The images of {what} are whole numbers from {low} to {high}; give uint8 from 0 to 255, or floats."
        )
    return images.to(torch.uint8)


def capital(text: str) -> str:
    """Return ``text`` with its first letter, and no other, made a capital."""
    return text[:1].upper() + text[1:]
