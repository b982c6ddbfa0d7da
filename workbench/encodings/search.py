"""Searches for the encodings of many tensors, carried on in step.

A search asks for what takes as long for one tensor as for dozens, and goes on once that is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeAlias, TypeVar

from workbench.encodings.base import Encoding
from workbench.encodings.blank import Sparsable
from workbench.encodings.integers import Packed
from workbench.encodings.ways import tally

E = TypeVar("E")

#: A search for one tensor's encoding: yields codes whose counts and tables it looks at next, or a tensor of which some
#: may be left out, whose smallest encoding it is then sent; returns what it chose.
Search: TypeAlias = Generator[Sequence[Packed] | Sparsable, Encoding | None, E]


def together(searches: Iterable[Search[E]], check: Callable[[], None] = lambda: None) -> list[E]:
    """Carry on many searches in step, so that what they look at next is worked out together; return what each chose.

    What comes out for one does not depend on the others. ``check`` is called before each step of each, and may raise.
    """
    running = dict(enumerate(searches))
    answers: dict[int, Encoding] = {}
    found: dict[int, E] = {}
    while running:
        counted: list[Packed] = []
        asked: dict[type[Sparsable], dict[int, Sparsable]] = defaultdict(dict)
        for place, search in tuple(running.items()):
            check()
            try:
                wanted = search.send(answers.get(place))
            except StopIteration as end:
                found[place] = end.value
                del running[place]
                continue
            if isinstance(wanted, Sparsable):
                asked[type(wanted)][place] = wanted
            else:
                counted += wanted
        if len(counted) > 1:  # a single one finds its own just as fast
            tally(counted)
        answers = {}
        for kind, ones in asked.items():
            answers.update(zip(ones, kind.smallest_of(list(ones.values())), strict=True))
    return [found[place] for place in sorted(found)]


def search_smallest(tensor: Sparsable) -> Search[Encoding]:
    """Search for the smallest encoding of a tensor of which some values may be left out."""
    found = yield tensor
    assert found is not None
    return found
