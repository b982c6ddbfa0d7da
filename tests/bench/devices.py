"""Predicted against published latencies of devices that nothing was learnt from.

Leave one out: for each published configuration, the population is learnt from the machines with other
chips; then the configuration is predicted from its data sheet alone, after one measurement, and after
three, drawn at random from its networks in the same number type (every network is once the only anchor).
The networks that were not anchors count. The ratio of 8-bit to float times is predicted too, from the data
sheet alone. Coverage is the share of what was published inside the stated 90 % interval. ``--learn`` only
learns the populations that ship from all configurations.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from workbench.measure.devices.calibrate import Belief, Observation, calibrate, forecast, forecast_ratio
from workbench.measure.devices.population import FILE, Population, learn, learn_all
from workbench.measure.devices.published import Configuration, configurations, networks
from workbench.measure.devices.roofline import DTYPES

#: Median errors and coverage that must be reached, over all CPUs and microcontrollers.
MUST = {1: 0.25, 3: 0.15}
COVERAGE = (0.85, 0.95)
ANCHORS = (0, 1, 3)
#: Draws of three anchors.
DRAWS = 12

Key = tuple[str, str, int]
#: Relative error, and whether the interval held it.
Outcome = tuple[float, bool]


def main() -> int:
    """Print the figures; exit with 1 where they miss what they must reach."""
    if sys.argv[1:] == ["--learn"]:
        FILE.write_text(json.dumps({name: entry.to_json() for name, entry in learn_all().items()}) + "\n")
        return 0
    start = time.perf_counter()
    outcomes: dict[Key, list[Outcome]] = defaultdict(list)
    for found in leave_one_out():
        for key, outcome in found:
            outcomes[key].append(outcome)
    print(f"{'family':7}{'numbers':9}{'anchors':>8}{'predictions':>13}{'median error':>14}{'mean':>8}{'coverage':>10}")
    for (family, dtype, anchors), entries in sorted(outcomes.items()):
        _print(family, dtype, anchors, entries)
    passed = True
    for anchors in ANCHORS:
        kinds = [key for key in outcomes if key[0] != "gpu" and key[1] in DTYPES and key[2] == anchors]
        entries = [one for key in kinds for one in outcomes[key]]
        _print("all", "without GPUs", anchors, entries)
        share = float(np.mean([held for _, held in entries]))
        median = float(np.median([error for error, _ in entries]))
        passed &= median <= MUST.get(anchors, 1.0) and (anchors == 0 or COVERAGE[0] <= share <= COVERAGE[1])
    print(f"{time.perf_counter() - start:.0f} s")
    return 0 if passed else 1


def leave_one_out() -> Iterator[list[tuple[Key, Outcome]]]:
    """Yield the outcomes of each configuration."""
    random = np.random.default_rng(0)
    everything = list(configurations().values())
    for soc in dict.fromkeys((entry.machine.family, entry.soc) for entry in everything):
        others = [e for e in everything if e.machine.family == soc[0] and e.soc != soc[1]]
        population = learn([(e.machine, e.observations()) for e in others], rounds=4)
        for entry in everything:
            if (entry.machine.family, entry.soc) == soc:
                yield list(_try(entry, population, random))


def _try(entry: Configuration, population: Population, random: np.random.Generator) -> Iterator[tuple[Key, Outcome]]:
    prior = population.belief(entry.machine)
    for dtype in DTYPES:
        seen = entry.observations(dtype)
        draws = {
            0: [[]],
            1: [[place] for place in range(len(seen))],
            3: [list(random.permutation(len(seen))[:3]) for _ in range(DRAWS)],
        }
        for anchors, chosen in draws.items():
            for places in chosen if seen else ():
                belief = calibrate(entry.machine, prior, [seen[place] for place in places])
                for place, item in enumerate(seen):
                    if place not in places:
                        yield (entry.machine.family, dtype, anchors), _judge(entry, belief, item)
    yield from _ratios(entry, population)


def _ratios(entry: Configuration, population: Population) -> Iterator[tuple[Key, Outcome]]:
    """Yield what the ratio of a network's 8-bit to its float time was predicted as, from the data sheet alone."""
    prior, work = population.belief(entry.machine), networks()
    floats = {item.network: item.ms for item in entry.measured if item.dtype == "float"}
    for item in entry.measured:
        if item.dtype == "int8" and item.network in floats:
            both = (work[item.network], "float"), (work[item.network], "int8")
            found = forecast_ratio(entry.machine, prior, *both)
            true = item.ms / floats[item.network]
            yield (entry.machine.family, "8÷float", 0), (abs(found.ms / true - 1), found.low <= true <= found.high)


def _judge(entry: Configuration, belief: Belief, item: Observation) -> Outcome:
    found = forecast(entry.machine, belief, item.work, item.dtype)
    return abs(found.ms / item.ms - 1), found.low <= item.ms <= found.high


def _print(family: str, dtype: str, anchors: int, entries: list[Outcome]) -> None:
    errors, held = np.array(entries).T
    print(
        f"{family:7}{dtype:13}{anchors:>4}{len(entries):>13,}{np.median(errors):>14.1%}{errors.mean():>8.1%}{held.mean():>10.1%}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
