"""What somebody else did to an input: which of its partitions, what is said of it, what a person does about it."""

from collections.abc import Iterable
from typing import Any

from pipeline_assets.delta import names
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.states import written_at
from pipeline_assets.errors import described
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import reads_own_key
from pipeline_assets.io.steps import Read


def touched(found: Read, until: int) -> dict[str, int]:
    """Partitions that a foreign commit touched after their checkpoint up to a version, and the checkpoint's version."""
    written = written_at(found.table, found.output.name, found.keys, found.pin.version)
    touched = {}
    for one in found.partitions:
        version = written.get(one.key)
        if version is not None and found.table.foreign_between(one, version, until):
            touched[one.key] = version
    return touched


def ignored_by(found: Read, key: str) -> dict[str, int]:
    """Of an input that the step reads what one of the partitions that it makes would have read of it."""
    return {one: version for one, version in found.ignored.items() if one == key or not found.own_key}


def each_reads_its_own(step_context: Any, output: Output) -> bool:
    """Whether each partition that a step makes reads the one of its own key of an input."""
    if step_context is None or output.asset_key is None:
        return False
    graph = step_context.job_def.asset_layer.asset_graph
    made = [one.asset_key for one in step_context.step.step_outputs if one.asset_key is not None]
    mapped = ((graph.get_partition_mapping(key, output.asset_key), graph.get(key).partitions_def) for key in made)
    return bool(made) and all(reads_own_key(mapping, own, output.partitions_def) for mapping, own in mapped)


def warning_of(found: Read) -> str:
    """What the run's log says of a read that leaves out what somebody else has written; nothing where none does."""
    if not found.ignored:
        return ""
    name = found.output.name
    by_version: dict[int, list[str]] = {}
    for key, version in found.ignored.items():
        by_version.setdefault(version, []).append(key)
    read = "; ".join(f"{described(name, keys)}, at version {version}" for version, keys in sorted(by_version.items()))
    return (
        f"A foreign commit has changed {found.output.location.uri} since it was written, and is not read. Read is {read}. "
        f"Where the change is meant, `pipeline-assets adopt {name}`, and run this again."
    )


def mend_of(found: Read, partitions: Iterable[Partition], new_run: str) -> str:
    """What a person does where what is read is gone: a new run reads the same where a foreign commit is all that followed."""
    name, table = found.output.name, found.table
    stuck = [
        one.key
        for one in partitions
        if one.key in found.ignored and table.txns.get(names.data(name, one.key), 0) <= found.ignored[one.key]
    ]
    if not stuck:
        command = f" (`{new_run}`)" if new_run else ""
        return f"Start a new run{command}, which reads the newest version, instead of continuing this one."
    return (
        f"Somebody else has written to {described(name, stuck)} since, which is not read; `pipeline-assets adopt {name}` "
        "where that is meant, else materialize it again."
    )
