"""Any torch ``Dataset`` or ``DataLoader`` of (image, label) pairs, or of images alone, read once into tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Subset
from torch.utils.data import Dataset as TorchDataset

from workbench.errors import WorkbenchError

from .assemble import Part
from .decode import in_eight_bits

_IMAGES = ("image", "img", "images", "pixel_values", "x")
_LABELS = ("label", "labels", "target", "y")


def is_torch_data(source: object) -> bool:
    """Whether ``source`` is a torch ``Dataset`` or ``DataLoader``."""
    return isinstance(source, (DataLoader, TorchDataset))


def read_torch_data(source: object, what: str) -> tuple[Part, tuple[str, ...] | None]:
    """Return images and labels of ``source``, in the dataset's own order, and its ``classes`` if any.

    A loader that shuffles is read in order (its subset, if its sampler is one), so that the cuts are the
    same in each run. Images may be tensors, arrays or PIL images.
    """
    dataset: Any = source.dataset if isinstance(source, DataLoader) else source
    pairs = _from_loader(source) if isinstance(source, DataLoader) else _from_dataset(dataset)
    images: list[object] = []
    labels: list[object] = []
    try:
        for image, label in pairs:
            images.append(image)
            labels.append(label)
    except WorkbenchError:
        raise
    except Exception as error:  # whatever the person's own dataset raises
        raise WorkbenchError(
            f"Reading image {len(images):,} of {what} failed with {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200].rstrip('.')}."
        ) from error
    return Part(images, _labels(labels)), _class_names(dataset)


def _from_dataset(dataset: Any) -> Iterator[tuple[object, object]]:
    if isinstance(dataset, IterableDataset):
        items: Iterable[Any] = iter(dataset)
    elif hasattr(dataset, "__len__"):
        items = (dataset[index] for index in range(len(dataset)))
    else:
        raise WorkbenchError("A torch Dataset must have a length (__len__) to be read.")
    for place, item in enumerate(items):
        image, label = _pair(item)
        yield _pixels(image, str(place)), label


def _from_loader(loader: DataLoader[Any]) -> Iterator[tuple[object, object]]:
    # Under a forked generator: drawing from a sampler must not shift the person's random numbers.
    with torch.random.fork_rng():
        for batch in loader if isinstance(loader.dataset, IterableDataset) else _in_order(loader):
            images, labels = _pair(batch)
            if loader.batch_size is None and loader.batch_sampler is None:  # items come one by one
                yield images, labels
            else:
                yield from zip(images, [None] * len(images) if labels is None else labels, strict=True)


def _in_order(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same images, sorted by their place in the dataset, each once and none dropped."""
    batches = loader.batch_sampler
    drawn: Iterable[Any]
    if batches is None:
        drawn = loader.sampler
    elif type(batches) is BatchSampler:
        drawn = batches.sampler
    else:
        drawn = chain.from_iterable(batches)
    subset = Subset(loader.dataset, sorted(set(drawn)))
    size = None if batches is None else loader.batch_size or 256
    return DataLoader(subset, batch_size=size, collate_fn=loader.collate_fn)


def _pair(item: Any) -> tuple[Any, Any]:
    """Return image and label, or a batch of them; the label is None where there is none."""
    if isinstance(item, dict):
        images = next((item[key] for key in _IMAGES if key in item), None)
        labels = next((item[key] for key in _LABELS if key in item), None)
        if images is not None and (labels is not None or item.keys() <= {*_IMAGES, *_LABELS}):
            return images, labels
    elif isinstance(item, Sequence) and len(item) == 2:
        return item[0], item[1]
    elif isinstance(item, Sequence) and len(item) == 1:  # of a TensorDataset of images alone
        return item[0], None
    elif isinstance(item, (Tensor, np.ndarray)) or hasattr(item, "getbands"):
        return item, None
    raise WorkbenchError(
        f"Each item of a dataset must be a pair (image, label), or an image alone, not {type(item).__name__}."
    )


def _pixels(image: Any, name: str) -> Any:
    """Tensors and arrays as they are; PIL images as uint8 (C, H, W)."""
    if not hasattr(image, "getbands"):
        return image
    pixels = np.asarray(in_eight_bits(image, name))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _labels(labels: list[object]) -> object:
    if labels and all(label is None for label in labels):
        return None
    return [label.item() if getattr(label, "ndim", None) == 0 else label for label in labels]  # type: ignore[attr-defined]


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    for _ in range(8):  # Subset of Subset of ...
        names = getattr(dataset, "classes", None)
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names) and names:
            return tuple(names)
        if not hasattr(dataset, "dataset"):
            return None
        dataset = dataset.dataset
    return None
