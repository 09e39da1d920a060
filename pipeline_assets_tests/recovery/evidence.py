"""What tables and the event log say, read without the code that wrote them: plain JSON, plain events."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
from polars.testing import assert_frame_equal

from pipeline_assets.delta.location import Location
from pipeline_assets.processes import PLACE_TAG

LOG = "_delta_log"


@dataclass(frozen=True)
class Entry:
    """One version of a table."""

    version: int
    record: Mapping[str, Any] | None
    changes_data: bool

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The checkpoints that a commit of ours made, one for each partition, with its `partition`."""
        if self.record is None or self.record["kind"] != "write":
            return []
        shared = self.record["shared"]
        return [{**shared, **own, "partition": key} for key, own in self.record["partitions"].items()]


def entries(table: Location) -> list[Entry]:
    """All versions of a table that its log still has, oldest first; none where there is no table."""
    found = []
    for name in sorted(name for name in table.names(LOG) if name.endswith(".json")):
        actions = [json.loads(line) for line in table.read(f"{LOG}/{name}").decode().splitlines()]
        info = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
        files = [action[kind] for action in actions for kind in ("add", "remove") if kind in action]
        changes = any(file.get("dataChange") for file in files)
        found.append(Entry(int(name.split(".")[0]), info.get("pipelineAssets"), changes))
    return found


def version(table: Location) -> int:
    """The newest version of a table."""
    return max(entry.version for entry in entries(table))


def rows(table: Location) -> pl.DataFrame:
    """All rows of a table, sorted."""
    frame = pl.read_delta(table.uri, storage_options=table.options or None)
    return frame.select(sorted(frame.columns)).sort(sorted(frame.columns))


def same_rows(one: Location, other: Location) -> None:
    """Two tables hold the same rows. Raises AssertionError."""
    assert_frame_equal(rows(one), rows(other), abs_tol=1e-9)


def writes(table: Location) -> list[tuple[str, str, str, int]]:
    """Our commits of data: output, partition, chain, version; one for each partition of a commit."""
    return [
        (entry.record["output"], part["partition"], part["chain"], entry.version)
        for entry in entries(table)
        if entry.record is not None
        for part in entry.parts
    ]


def written_once(table: Location) -> None:
    """No chain committed a partition of the table twice. Raises AssertionError."""
    counts = Counter((output, key, chain) for output, key, chain, _ in writes(table))
    doubled = {name: count for name, count in counts.items() if count > 1}
    assert not doubled, f"committed more than once: {doubled}"


def all_told(instance: dg.DagsterInstance, table: Location) -> None:
    """Each commit of ours has an event that names its version, chain and partition. Raises AssertionError."""
    for output, key, chain, number in writes(table):
        heard = events(instance, output, key)
        assert (number, chain) in {(one["delta/version"], one["checkpoint/chain"]) for one in heard}, (
            f"version {number} of {output} [{key}] has no event; there are {heard}"
        )


def all_lawful(instance: dg.DagsterInstance, tables: Iterable[Location]) -> None:
    """Invariants 1 and 2 of all tables. Raises AssertionError."""
    for table in tables:
        written_once(table)
        all_told(instance, table)


def events(instance: dg.DagsterInstance, asset: str, partition: str = "*") -> list[dict[str, Any]]:
    """Metadata of an asset's materializations of a partition, newest first; with `run` and `partition`."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")))
    found = []
    for record in instance.fetch_materializations(wanted, limit=5000).records:
        event = record.asset_materialization
        if event is not None and (event.partition or "*") == partition:
            said = {name: value.value for name, value in event.metadata.items()}
            found.append({**said, "run": record.run_id})
    return found


def steps_of(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Keys of the steps that a run began, in order."""
    starts = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
    return [entry.step_key for entry in starts if entry.step_key]


def messages(instance: dg.DagsterInstance, run_id: str) -> str:
    """All that the log of a run says, errors too."""
    said = []
    for entry in instance.all_logs(run_id):
        said.append(entry.user_message or entry.message or "")
        error = getattr(getattr(entry.dagster_event, "event_specific_data", None), "error", None)
        if error is not None:
            said.append(error.to_string())
    return "\n".join(said)


def elsewhere(instance: dg.DagsterInstance, run_id: str) -> None:
    """Let a run be at work on another host, of which this one cannot tell anything."""
    instance.add_run_tags(run_id, {PLACE_TAG: f"{run_id} elsewhere 11-22 pid:[33] 44"})
