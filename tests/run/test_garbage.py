from __future__ import annotations

import gc
import weakref

from workbench.run import garbage


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_alive_is_left_out_of_collections_until_the_last_release() -> None:
    before = gc.get_freeze_count()
    garbage.hold()
    garbage.hold()
    assert gc.get_freeze_count() > before
    garbage.release()
    assert gc.get_freeze_count() > 0
    garbage.release()
    assert gc.get_freeze_count() == 0 or before > 0


def test_a_cycle_left_behind_is_collected_once_released() -> None:
    node = Node()
    seen = weakref.ref(node)
    garbage.hold()
    del node
    garbage.release()
    gc.collect()
    assert seen() is None
