"""What a table's log says of our checkpoints, read once and remembered.

Delta protocol, "Action Reconciliation": the newest `txn` of an application id counts, and checkpoints carry it on.
delta-rs answers for one id at a time (1 ms each), so the entries are read here, all at once and incrementally.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import pyarrow.parquet as pq

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import PREFIX
from pipeline_assets.delta.record import Record
from pipeline_assets.errors import DamagedTable

LOG = "_delta_log"
RECORD = "pipelineAssets"
"""The key of our record in a commit's `commitInfo`."""
COUNTED = "entries"
"""In our record: how many `txn` entries its commit has, which are the last that is written of it."""
CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint.*\.parquet$")
"""The name of a log checkpoint, or a part of one."""
ENTRY = re.compile(r"^(\d{20})\.json$")
_FILE_ACTIONS = ('{"add"', '{"remove"', '{"cdc"')


@dataclass(frozen=True)
class Commit:
    """One version of a table as its log entry tells it, without its file actions.

    schema, table_id: the columns (`schemaString`) and the table's id where the entry says them: a creation, new columns, new
    properties; another table made in the same folder has another id.
    """

    version: int
    info: Mapping[str, Any] = field(default_factory=dict)
    txns: Mapping[str, int] = field(default_factory=dict)
    changes_data: bool = False
    schema: str | None = None
    table_id: str | None = None

    @cached_property
    def record(self) -> Record | None:
        """What we wrote about the commit; None where it is not ours."""
        record = self.info.get(RECORD)
        return Record.of_json(record) if isinstance(record, Mapping) else None

    @property
    def operation(self) -> str:
        """`WRITE`, `OPTIMIZE`, `DELETE`, …: what the writer called it."""
        return str(self.info.get("operation", "an unnamed operation"))

    @property
    def is_foreign(self) -> bool:
        """A data change that is no commit of ours."""
        return self.changes_data and self.record is None


class TableLog:
    """The log of one Delta table (one metadata id); what was read stays, since versions never change."""

    def __init__(self, location: Location, table_id: str) -> None:
        self.location, self.table_id = location, table_id
        self._commits: dict[int, Commit | None] = {}
        self._txns: tuple[int, dict[str, int]] | None = None

    def txns(self, version: int) -> Mapping[str, int]:
        """All our `txn` entries as of a version. Raises DamagedTable where the log has a gap."""
        known = self._txns
        if known is not None and known[0] == version:
            return known[1]
        entries = self._forward(*known, self.table_id, version) if known is not None and known[0] < version else None
        if entries is None:  # nothing is known yet, or log clean-up has taken some of it: a checkpoint has the rest
            entries = self._forward(*self._from_checkpoint(version), version)
        if entries is None:
            raise DamagedTable(table=self.location.uri, why=f"its log has no entries up to version {version}")
        if self._txns is None or version >= self._txns[0]:
            self._txns = version, entries
        return entries

    def _forward(self, at: int, known: Mapping[str, int], table_id: str, version: int) -> dict[str, int] | None:
        """What is known at a version of a table, and what the entries after it say; None where one of them is gone.

        Those of another table, which this one was made in the place of, do not count.
        """
        entries = dict(known)
        for number in range(at + 1, version + 1):
            commit = self.commit(number)
            if commit is None:
                return None
            if commit.table_id not in (None, table_id):
                table_id = str(commit.table_id)
                entries.clear()
            entries.update(commit.txns)
        return entries

    def commit(self, version: int) -> Commit | None:
        """The entry of a version; None where log clean-up has taken it. Raises DamagedTable."""
        found = self._commits.get(version)
        if found is None:
            try:
                content = self.location.read(entry_of(version))
            except FileNotFoundError:
                return None
            found = self._commits[version] = self._parse(version, content)
        return found

    def back_from(self, version: int) -> Iterator[Commit]:
        """Entries from a version on backwards, as far as the log goes."""
        while version >= 0 and (commit := self.commit(version)) is not None:
            yield commit
            version -= 1

    def actions(self, version: int, *kinds: str) -> list[dict[str, Any]]:
        """The actions of some kinds (`add`, `remove`) of a version, as they are in its entry."""
        content = self.location.read(entry_of(version)).decode()
        lines = content.splitlines()
        return [json.loads(line)[kind] for kind in kinds for line in lines if line.startswith(f'{{"{kind}"')]

    def _from_checkpoint(self, version: int) -> tuple[int, dict[str, int], str]:
        """The version of the newest one up to a version, its entries, and the table's id there."""
        names = [(int(found[1]), name) for name in self.location.names(LOG) if (found := CHECKPOINT.match(name))]
        newest = max((number for number, _ in names if number <= version), default=-1)
        entries: dict[str, int] = {}
        table_id = ""
        for path in [f"{LOG}/{name}" for number, name in names if number == newest]:
            with self.location.files.open_input_file(
                path
            ) as file:  # `pq.read_table` would import pandas, for half a second
                actions = pq.ParquetFile(file).read(columns=["txn", "metaData.id"])
            table_id = next((one["id"] for one in actions["metaData"].drop_null().to_pylist() if one["id"]), table_id)
            for txn in actions["txn"].drop_null().to_pylist():
                if txn["appId"].startswith(f"{PREFIX}/"):
                    entries[txn["appId"]] = txn["version"]
        return newest, entries, table_id

    def _parse(self, version: int, content: bytes) -> Commit:
        info: dict[str, Any] = {}
        txns: dict[str, int] = {}
        data = False
        metadata: dict[str, Any] = {}
        for line in content.decode().splitlines():
            if line.startswith(_FILE_ACTIONS):
                data = data or '"dataChange":true' in line
                continue
            try:
                action = json.loads(line)
            except ValueError as error:
                raise DamagedTable(table=self.location.uri, why=f"log entry {version} is not JSON ({error})") from error
            if "commitInfo" in action:
                info = action["commitInfo"]
            elif "txn" in action and action["txn"]["appId"].startswith(f"{PREFIX}/"):
                txns[action["txn"]["appId"]] = action["txn"]["version"]
            elif "metaData" in action:
                metadata = action["metaData"]
        self._refuse_cut_off(version, content, info, txns)
        return Commit(version, info, txns, data, metadata.get("schemaString"), metadata.get("id"))

    def _refuse_cut_off(self, version: int, content: bytes, info: Mapping[str, Any], txns: Mapping[str, int]) -> None:
        """A file that a crash cut off between two lines is an entry of its own, to Delta. Ours end with what they count."""
        if not content.strip():
            raise DamagedTable(table=self.location.uri, why=f"log entry {version} is empty")
        record = info.get(RECORD)
        counted = record.get(COUNTED) if isinstance(record, Mapping) else None
        if counted is not None and counted != len(txns):
            raise DamagedTable(
                table=self.location.uri,
                why=f"log entry {version} is cut off: it has {len(txns)} of {counted} txn entries",
            )


def entry_of(version: int) -> str:
    """The path of a version's entry, below the table."""
    return f"{LOG}/{version:020}.json"


@lru_cache(maxsize=256)
def log_of(location: Location, table_id: str) -> TableLog:
    """The remembered log of a table; a table that was made anew has an id, and a log, of its own."""
    return TableLog(location, table_id)
