"""``workbench profile``: where the uncompressed model's time and memory go, and what would help."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from .common import Verbs, add_json, add_subject, load_data

if TYPE_CHECKING:
    from workbench.analyze.profile import Profile
    from workbench.analyze.profile_words import Words


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("profile", help="where the model's time and memory go, and which techniques would help")
    add_subject(verb)
    add_json(verb)
    verb.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> int:
    from workbench.analyze.profile import profile_baseline
    from workbench.analyze.profile_words import describe_profile
    from workbench.models.load import load_model
    from workbench.session import Session

    model = load_model(options.model, architecture=options.architecture)
    with Session(model, load_data(options, model), split=options.split) as session:
        session.measure()  # nothing else runs while time is measured
        found = profile_baseline(session)
        words = describe_profile(found)
        data = session.data.name
    if options.json:
        print(json.dumps({"dataset": data, **found.to_json(), "words": words.to_json()}, indent=1))
    else:
        print(_render(found, words))
    return 0


def _render(found: Profile, words: Words) -> str:
    roof = found.roofline
    lines = [
        f"{found.model}: {found.ms:.3f} ms an image in {found.runtime} (one thread), {found.torch_ms:.3f} ms in torch",
        f"roofline: {roof.peak:.1f} GFLOP/s, {roof.bandwidth:.1f} GB/s, ridge at {roof.ridge:.1f} FLOP/B", "",
    ]  # fmt: skip
    width = max(len(layer.name) for layer in found.layers)
    lines.append(f"{'layer'.ljust(width)}       ms  share   torch  FLOP/B  GFLOP/s  at most  limit")
    for layer in found.layers:
        ms, share = (f"{layer.ms:8.4f}", f"{layer.share or 0:6.1%}") if layer.ms is not None else ("       –", "     –")
        timed = f"{layer.torch_ms:7.3f}" if layer.torch_ms is not None else "      –"
        reached = f"{layer.gflops:8.1f}" if layer.gflops is not None else "       –"
        lines.append(
            f"{layer.name.ljust(width)} {ms} {share} {timed} {layer.intensity:7.1f} {reached} {layer.attainable:8.1f}  "
            f"{layer.limit}"
        )
    operators = ", ".join(f"{one.name} {one.share:.0%}" for one in found.operators[:5])
    lines += ["", f"operators: {operators}", ""]
    lines += [*words.dominates, "", *(f"+ {one}" for one in words.helps), *(f"- {one}" for one in words.does_not), ""]
    for suggestion in words.suggestions:
        lines += [f"Try, for {suggestion.why}:", *(f"  {line}" for line in suggestion.recipe.splitlines())]
    return "\n".join(lines)
