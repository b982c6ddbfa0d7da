"""Cut the splits that were not given, by class, the same in each run.

The rule, the same for every source that brings no splits of its own:

* a given test set is kept whole; without one a share of the images (20 %) becomes it, or, where
  there are train and validation sets only, the validation set takes its place;
* validation is cut from train (20 %) unless given;
* calibration is a part of train: about 1,000 images at most, classes in proportion;
* cuts are stratified by class, where there are labels, and fixed by the seed; images that are equal pixel
  for pixel go to the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .dataset import Split
from .options import Options

CALIBRATION_IMAGES = 1_000


def cut(
    found: Mapping[str, Split], names: tuple[str, ...], options: Options, what: str
) -> tuple[dict[str, Split], list[str]]:
    """Return the four splits made of the sets ``found``, and notes on what was cut.

    Raises ``WorkbenchError`` where a class has too few images to be in each.
    """
    train, validation, test = (found.get(key) for key in ("train", "validation", "test"))
    notes: list[str] = []
    if len(found) == 1:
        (only,) = found.values()
        shares = [options.validation_share, options.test_share]
        cut_validation, cut_test, rest = _divide(only, shares, names, options.seed, what)
        train, validation, test = only.take(rest), only.take(cut_validation), only.take(cut_test)
        notes.append(
            f"One set of {len(only):,} images was given; it was cut into {len(train):,} to train on, "
            f"{len(validation):,} for validation and {len(test):,} for test ({_how(only)}, seed {options.seed})."
        )
    elif test is None:
        test, validation = validation, None
        notes.append("There is no test set; the validation set is used as test.")
    if train is None:
        train, validation = validation, None
        notes.append("There is no train set; the validation set is used as train.")
    assert train is not None
    assert test is not None
    if validation is None:
        cut_validation, rest = _divide(train, [options.validation_share], names, options.seed, what)
        how = f"{_how(train)}, seed {options.seed}"
        validation, train = train.take(cut_validation), train.take(rest)
        notes.append(f"Validation ({len(validation):,} images) was cut from train ({how}).")
    train = Split("train", train.images, train.labels)
    splits = {
        "train": train,
        "calibration": calibration_of(train, options.seed),
        "validation": Split("validation", validation.images, validation.labels),
        "test": Split("test", test.images, test.labels),
    }
    return splits, notes


def stratified(labels: NDArray[Any], shares: Sequence[float], seed: int, groups: NDArray[Any]) -> list[Tensor]:
    """Return sorted indices of each share and, last, of the rest; every class in proportion.

    ``groups`` numbers equal images: a group is never divided. Each share gets at least one group of
    every class that is there; the legacy generator is used since its stream is promised not to change.
    """
    generator = np.random.RandomState(seed)
    chosen: list[list[NDArray[Any]]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = generator.permutation(np.unique(groups[members]))
        counts = [max(1, round(share * len(order))) for share in shares]
        edges = np.cumsum(counts)
        for part, taken in zip(chosen, np.split(order, edges), strict=True):
            part.append(members[np.isin(groups[members], taken)])
    return [torch.from_numpy(np.sort(np.concatenate(part))) for part in chosen]


def fingerprints(images: Tensor) -> NDArray[Any]:
    """Return 16 bytes for each image, equal where the pixels are."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return np.array([hashlib.blake2b(row.data, digest_size=16).digest() for row in rows], dtype="V16")


def calibration_of(train: Split, seed: int = 0) -> Split:
    """Return the calibration split: about 1,000 images at most of ``train``, classes in proportion."""
    if len(train) <= CALIBRATION_IMAGES:
        return train.take(torch.arange(len(train)), "calibration")
    share = CALIBRATION_IMAGES / len(train)
    part, _ = stratified(train.labels.numpy(), [share], seed, np.arange(len(train)))
    return train.take(part, "calibration")


def repeats(splits: Mapping[str, Split]) -> list[str]:
    """Return a note for each pair of splits that share images, pixel for pixel."""
    prints = {key: fingerprints(splits[key].images) for key in ("train", "validation", "test")}
    notes = []
    for here, there in (("validation", "train"), ("test", "train"), ("test", "validation")):
        count = int(np.isin(prints[here], prints[there]).sum())
        if count:
            notes.append(f"{count:,} of the {len(prints[here]):,} {here} images also occur in {there}.")
    return notes


def _how(split: Split) -> str:
    return "by class" if split.labelled else "at random"


def _divide(split: Split, shares: list[float], names: tuple[str, ...], seed: int, what: str) -> list[Tensor]:
    labels, needed = split.labels.numpy(), len(shares) + 1
    if not split.labelled:  # all are dealt out as one class
        labels, names = np.zeros_like(labels), ("all",)
        if len(split) < needed:
            raise WorkbenchError(f"There are too few images in {what}: it takes at least {needed}, one in each split.")
    counts = np.bincount(labels, minlength=len(names))
    scarce = np.flatnonzero((counts > 0) & (counts < needed))
    if len(scarce):
        number = int(scarce[0])
        raise WorkbenchError(
            f"Class '{names[number]}' of {what} has only {counted(int(counts[number]), 'image')}; "
            f"it takes at least {needed} to have one in each split."
        )
    _, groups = np.unique(fingerprints(split.images), return_inverse=True)
    for label in np.flatnonzero(counts):
        members = labels == label
        if len(np.unique(groups[members])) < needed:
            # Too few different images to keep equal ones together: better divided, and noted, than refused.
            groups[members] = len(groups) + np.flatnonzero(members)
    parts = stratified(labels, shares, seed, groups)
    if not all(len(part) for part in parts):
        raise WorkbenchError(f"There are too few images in {what} for these shares; give smaller shares.")
    return parts
