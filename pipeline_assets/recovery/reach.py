"""Whether earlier versions of a table can be gone back to: its log and files are asked at once, not version by version."""

from collections.abc import Mapping
from functools import cached_property
from urllib.parse import unquote

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.log import CHECKPOINT, ENTRY, LOG
from pipeline_assets.delta.partitions import Partition, read_value
from pipeline_assets.delta.restorable import NotRestorable, refuse_gone
from pipeline_assets.delta.states import shown_until
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among, types_of


class Reach:
    """What of a table's earlier versions is there still. First all that is wanted, then the questions."""

    def __init__(self, table: Table, output: Output) -> None:
        self.table, self.output = table, output
        self._files: dict[tuple[int, str], list[str] | None] = {}

    def want(self, version: int, partition: str) -> None:
        """It will be asked whether a partition can go back to a version."""
        self._files[version, partition] = self._own_files(version, partition) if self.is_logged(version) else None

    def why_not(self, version: int, partition: str) -> str | None:
        """Why a partition cannot go back to a version; None where it can."""
        if not self.is_logged(version):
            return f"the log of version {version} was cleaned up"
        files = self._files.get((version, partition))
        if files is not None and not self._gone.intersection(files):
            return None
        one = self._partition(partition)
        until = shown_until(self.table, self.output.name, one, version)
        if files is not None and until == version:
            return f"its file {min(self._gone.intersection(files))} was vacuumed"
        try:
            refuse_gone(self.table, until, [one])
        except (NotRestorable, DamagedTable) as error:
            return error.why
        return None

    def is_logged(self, version: int) -> bool:
        """Whether the log says what was in the table at a version."""
        return version in self._logged

    @cached_property
    def _logged(self) -> set[int]:
        """From version 0, or from a checkpoint of the log, as far as its entries go without a gap."""
        names = self.table.location.names(LOG)
        entries = {int(found[1]) for name in names if (found := ENTRY.match(name))}
        checkpoints = {int(found[1]) for name in names if (found := CHECKPOINT.match(name))}
        known: set[int] = set()
        for version in sorted(entries | checkpoints):
            if version == 0 or version in checkpoints or (version in entries and version - 1 in known):
                known.add(version)
        return known

    @cached_property
    def _gone(self) -> set[str]:
        """Of all files that are wanted those that are not there."""
        wanted = sorted({path for files in self._files.values() for path in files or ()})
        infos = self.table.location.files.get_file_info(wanted) if wanted else []
        return {path for path, info in zip(wanted, infos, strict=True) if not info.is_file}

    def _own_files(self, version: int, partition: str) -> list[str] | None:
        """The files that a write put in place of all that was in a partition; None where it did something else."""
        record = self.table.record_at(version)
        if record is None or record.kind != "write" or record.mode is not Mode.OVERWRITE:
            return None
        one = self._partition(partition)
        adds = self.table.log.actions(version, "add")
        return [unquote(action["path"]) for action in adds if self._is_in(one, action["partitionValues"])]

    def _is_in(self, one: Partition, spelled: Mapping[str, str | None]) -> bool:
        types = self._types
        return one.holds({column: read_value(spelled[column], types[column]) for column in one.columns})

    @cached_property
    def _types(self) -> Mapping[str, object]:
        return types_of(self.table.schema)

    def _partition(self, key: str) -> Partition:
        return partitions_among(self.output.wanted([key]), self.table.schema, self.output.name)[0]
