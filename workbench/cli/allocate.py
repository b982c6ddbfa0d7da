"""``workbench allocate``: the best recipe within a budget of size, time, work or accuracy."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import Verbs, add_json, add_subject, answer_alone, follow, load_data, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("allocate", help="find the best recipe within a budget")
    add_subject(verb)
    budget = verb.add_mutually_exclusive_group(required=True)
    budget.add_argument("--max-bytes", type=float, metavar="N", help="packed size at most, bytes")
    budget.add_argument("--max-runtime-bytes", type=float, metavar="N", help="size of a runtime's file at most, bytes")
    budget.add_argument("--max-ms", type=float, metavar="X", help="predicted latency of an image at most, ms")
    budget.add_argument("--max-macs", type=float, metavar="N", help="multiply-accumulates of an image at most")
    budget.add_argument("--max-drop", type=float, metavar="P", help="accuracy lost at most, points; then the smallest")
    verb.add_argument(
        "--technique", action="append", default=[], metavar="T",
        help="what may be used: quantize, prune, channels, factorize, share; may be given several times",
    )  # fmt: skip
    verb.add_argument("--recipe", metavar="FILE", help="recipe whose other settings and steps are kept")
    verb.add_argument("--lock", metavar="L1,L2", help="layers that keep what they have in the recipe")
    verb.add_argument(
        "--no-repair", dest="repair", action="store_false", help="add no step that repairs, such as recalibrate"
    )
    verb.add_argument(
        "--front",
        type=int,
        metavar="TRIALS",
        help="then evolve a front of accuracy, size and latency over so many trials",
    )
    verb.add_argument("--executor", choices=("threads", "processes", "inline"), help="where it runs (default: threads)")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    add_json(verb)
    verb.set_defaults(run=_allocate)


def _allocate(options: argparse.Namespace) -> int:
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.search.front import FrontJob, require_front
    from workbench.search.job import AllocationJob
    from workbench.search.report import allocation_report, render_allocation
    from workbench.session import Session

    budget = _budget(options)
    if options.front is not None:
        require_front(options.front)  # before an answer is found that it would take along
    asked = [name for given in options.technique for name in given.split(",")]
    base = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    with answer_alone(), Session(model, load_data(options, model), split=options.split) as session:
        job = AllocationJob(
            session,
            budget,
            asked,
            base=base,
            locked=options.lock.split(",") if options.lock else (),
            repair=options.repair,
            executor=options.scheduler or options.executor,
        )
        follow(job)
        report = allocation_report(session, job.result())
        if options.front is not None:
            front = FrontJob(
                session,
                options.front,
                asked,
                base=base,
                locked=options.lock.split(",") if options.lock else (),
                repair=options.repair,
                executor=options.scheduler or options.executor,
            )
            follow(front)
            report["front"] = [point.to_json() for point in front.result()]
    print(json.dumps(report, indent=1) if options.json else render_allocation(report))
    return 0


def _budget(options: argparse.Namespace) -> Any:
    from workbench.search.budget import Budget

    if options.max_drop is not None:
        return Budget("drop", options.max_drop / 100)
    given = {
        "bytes": options.max_bytes,
        "runtime_bytes": options.max_runtime_bytes,
        "ms": options.max_ms,
        "macs": options.max_macs,
    }
    return next(Budget(kind, value) for kind, value in given.items() if value is not None)  # type: ignore[arg-type]
