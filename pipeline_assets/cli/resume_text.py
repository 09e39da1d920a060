"""How a resume's plan and its end are said, to people and as a document."""

from collections.abc import Mapping
from datetime import datetime, timezone

from pipeline_assets.cli.shown import spoken
from pipeline_assets.errors import describe
from pipeline_assets.recovery.plan import AGAIN, COMMITTED, FINISHED, LEFT, Plan, StepState

_WORDS: Mapping[str, str] = {FINISHED: "finished", COMMITTED: "adopted", LEFT: "run", AGAIN: "again"}


def begun_lines(plan: Plan) -> list[str]:
    """What is done, before it is."""
    return [_short(one) for one in plan.steps]


def plan_lines(plan: Plan) -> list[str]:
    """What would be done, why, and how long that takes, aligned; and what else could be chosen."""
    rows = [(_WORDS[one.state], one.name, _what(one), _about(one.seconds) if one.is_run else "") for one in plan.steps]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = []
    for one, row in zip(plan.steps, rows, strict=True):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
        lines += [
            f"    {describe(kept.output, kept.partition)}: version {kept.version}, of run {kept.chain}, will stay"
            for kept in one.keeps
        ]
    changed = [one for one in plan.steps if one.changed and not one.is_run]
    lines += [f"Made by other {' and '.join(one.changed)}: {one.name}" for one in changed]
    if changed:
        lines.append("`--recompute changed` makes that and what follows from it again, as a new run chain.")
    if plan.begins:
        lines.append("What is run is a run chain of its own.")
    seconds = plan.seconds
    takes = f"{_about(seconds)} by earlier durations. " if seconds is not None and plan.to_run else ""
    return [*lines, f"{takes[:1].upper()}{takes[1:]}Nothing was changed. Plan {plan.made_from}."]


def document_of(plan: Plan) -> dict[str, object]:
    """The plan, as a document; times in UTC, durations in seconds."""
    steps = [
        {
            "step": one.key,
            "stage": one.name,
            "state": one.state,
            "versions": dict(one.versions),
            "made": datetime.fromtimestamp(one.made, timezone.utc).isoformat() if one.made is not None else None,
            "why": one.why or None,
            "seconds": one.seconds,
            "changed": list(one.changed),
            "keeps": [vars(kept) for kept in one.keeps],
        }
        for one in plan.steps
    ]
    return {
        "resumed": plan.run.run_id,
        "plan": plan.made_from,
        "seconds": plan.seconds,
        "new_chain": plan.begins,
        "steps": steps,
    }


def _short(one: StepState) -> str:
    said = one.why if one.is_run else ", ".join(filter(None, [_versions(one), one.why]))
    return f"  {_WORDS[one.state]:<8} {one.name}{f' ({said})' if said else ''}"


def _what(one: StepState) -> str:
    if one.is_run:
        return one.why
    said = [_versions(one), f"made {spoken(one.made)}" if one.made is not None else "", one.why]
    return ", ".join(text for text in said if text)


def _versions(one: StepState) -> str:
    return ", ".join(f"version {version}" for version in one.versions.values())


def _about(seconds: float | None) -> str:
    if seconds is None:
        return "nobody knows how long"
    return "less than 1 s" if seconds < 1 else f"about {seconds:.0f} s"
