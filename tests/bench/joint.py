"""Channels and bits allocated together against one after the other, at the same packed size.

*Together*: every layer's channels and bits in one exact problem. *Separately*: channels first, exactly, down to a share
of the dense file, then bits, exactly, down to the budget; the best of several such shares, as chosen on the validation
split. *Bits alone* stand beside them. No repair and no training, so that it is the allocation that is compared. The
budgets are the packed size of uniform 2 bits and shares of it: above, bits alone lose little and there is nothing to
win. Searched on the validation split, told on the test split, with the 95 % interval of the paired difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import torch

from tests.bench.record import Figure, keep
from workbench.analyze.classes import paired_change
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.search.allocation import Answer
from workbench.search.budget import Budget
from workbench.search.job import AllocationJob
from workbench.session import Session

DATA, UNIFORM = "fashion_mnist", "- quantize: {bits: 2}"
#: Shares of the size of uniform 2 bits that are budgets, and of the dense file that channels alone are brought to.
BUDGETS, SPLITS = (1.0, 0.6), (0.8, 0.6, 0.35)


@dataclass(frozen=True)
class Run:
    """One answer: accuracies in percent, packed ``bytes``, and the ``recipe`` as JSON."""

    way: str
    budget: int
    bytes: int
    validation: float
    test: float
    recipe: str


def main() -> int:
    """Print and record the table; return 1 where together loses more than separately beyond chance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="lenet5")
    name = parser.parse_args().model
    start = time.perf_counter()
    with Session(name, load_dataset(DATA), history=":memory:") as session:
        session.measure()
        uniform = session.measure(UNIFORM).size
        assert uniform is not None
        narrowed = [_answer(session, share * uniform.dense_fp32_bytes, ["channels"]) for share in SPLITS]
        runs, figures = [], []
        for share in BUDGETS:
            found, figure = _compare(session, round(share * uniform.bytes), [each.recipe for each in narrowed if each])
            runs += found
            figures.append(figure)
    keep(f"joint_{name}", figures, data=DATA, seeds=[0], seconds=time.perf_counter() - start, runs=runs)
    return 0 if all(figure.reached for figure in figures) else 1


def _compare(session: Session, budget: int, narrowed: list[Recipe]) -> tuple[list[Run], Figure]:
    """Return the answers of all ways within ``budget``, and what the best separate one loses to the joint one."""
    bits = _answer(session, budget, ["quantize"])
    together = _answer(session, budget, ["channels", "quantize"])
    assert together is not None, "it has every option that the others have"
    later = [_answer(session, budget, ["quantize"], base) for base in narrowed]
    ways = {"together": together, "bits alone": bits}
    ways |= {f"channels to {share:.0%}, then bits": one for share, one in zip(SPLITS, later, strict=False)}
    runs = [_run(way, budget, one) for way, one in ways.items() if one is not None]
    others = {way: one for way, one in ways.items() if one is not None and way != "together"}
    best = max(others, key=lambda way: others[way].accuracy)
    labels = session.split.labels.numpy()
    before, after = (session.answers(one.recipe) == labels for one in (others[best], together))
    gain = paired_change(int((before & ~after).sum()), int((after & ~before).sum()), len(labels))
    told = ", ".join(f"{run.way} {run.test:.2f} %" for run in runs)
    measured = (
        f"{100 * gain.value:+.2f} points ({100 * gain.low:+.2f} to {100 * gain.high:+.2f}) against {best}: {told}"
    )
    title = f"{session.model.name}: channels × bits together against separately, {budget:,} bytes"
    return runs, Figure(title, "not behind beyond chance", measured, gain.high >= 0)


def _answer(session: Session, budget: float, methods: list[str], base: Recipe | None = None) -> Answer | None:
    """Return the best answer within ``budget`` bytes on top of ``base``, None where there is none."""
    try:
        job = AllocationJob(session, Budget("bytes", budget), methods, base=base or Recipe(), repair=False)
        return job.result().best
    except WorkbenchError as error:
        print(f"{' and '.join(methods)} within {budget:,.0f} bytes: {error}", flush=True)
        return None


def _run(way: str, budget: int, answer: Answer) -> Run:
    reported = answer.reported
    assert reported is not None
    assert reported.accuracy is not None
    run = Run(
        way, budget, round(answer.cost), round(100 * answer.accuracy, 2), round(100 * reported.accuracy.value, 2),
        answer.recipe.to_json(),
    )  # fmt: skip
    print(f"{way}: {run.bytes:,} bytes, validation {run.validation} %, test {run.test} %", flush=True)
    return run


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit(main())
