from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.measure.pareto import pareto_front

figures = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30)


@given(figures, st.booleans(), st.booleans())
def test_the_front_is_what_no_other_setting_beats(points: list[tuple[int, int]], first: bool, second: bool) -> None:
    x, y = (np.array([point[axis] for point in points], float) for axis in (0, 1))
    front = pareto_front(x, y, higher=(first, second))
    gain = np.stack([x if first else -x, y if second else -y], 1)

    def beaten(at: int) -> bool:
        return any((other >= gain[at]).all() and (other > gain[at]).any() for other in gain)

    best = {points[at] for at in range(len(points)) if not beaten(at)}
    assert {points[at] for at in front} == best
    assert len(front) == len(best)
    assert x[front].tolist() == sorted(x[front])


def test_settings_whose_figures_are_not_known_are_never_on_it() -> None:
    assert pareto_front([1, np.nan, 3], [0.5, 0.9, np.nan]).tolist() == [0]
    assert pareto_front([], []).tolist() == []


def test_of_equal_settings_the_first_is_named() -> None:
    assert pareto_front([2, 2, 1], [0.9, 0.9, 0.8]).tolist() == [2, 0]
