"""How much of what one-shot pruning loses comes back by taking BatchNorm's statistics anew."""

from __future__ import annotations

import sys

import torch

from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.session import Session

RATIOS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
#: Points that pruning alone must have cost for a ratio to count, from and to.
COUNTED = (20.0, 60.0)
LEAST_BACK = 0.5


def main() -> int:
    """Print a row a ratio, on the whole test split; return 1 where less than half of a loss comes back."""
    torch.set_num_threads(2)
    name = sys.argv[1] if len(sys.argv) > 1 else "resnet20"
    backs = []
    with Session(name, load_dataset("fashion_mnist"), history=":memory:") as session:
        dense = _accuracy(session, "[]")
        print(f"{name}, dense {dense:.2f} %, one-shot global magnitude pruning, {len(session.split):,} test images")
        print(f"{'ratio':>6}{'pruned %':>10}{'recalibrated %':>16}{'lost':>8}{'back':>8}{'share':>8}")
        for ratio in RATIOS:
            prune = f"- prune: {{ratio: {ratio}}}"
            pruned, again = _accuracy(session, prune), _accuracy(session, f"{prune}\n- recalibrate: {{}}")
            lost, back = dense - pruned, again - pruned
            counts = COUNTED[0] <= lost <= COUNTED[1]
            share = f"{back / lost:.0%}" if lost >= 1 else "–"
            row = f"{ratio:>6}{pruned:>10.2f}{again:>16.2f}{lost:>8.2f}{back:>8.2f}{share:>8}"
            print(row + ("  counts" if counts else ""), flush=True)
            if counts:
                backs.append(back / lost)
    if not backs:
        print(f"no ratio costs {COUNTED[0]:.0f} to {COUNTED[1]:.0f} points")
        return 1
    print(f"where pruning costs {COUNTED[0]:.0f} to {COUNTED[1]:.0f} points, at least {min(backs):.0%} come back")
    return 1 if min(backs) < LEAST_BACK else 0


def _accuracy(session: Session, recipe: str) -> float:
    """Return the exact accuracy, in per cent."""
    found = session.measure(Recipe.parse(recipe)).accuracy
    assert found is not None
    return 100 * found.value


if __name__ == "__main__":
    sys.exit(main())
