"""Which partition each written file belongs to, and what is refused by looking at the files."""

from collections.abc import Mapping, Sequence
from typing import Any

from deltalake import Schema

from pipeline_assets.delta.files import DataFile
from pipeline_assets.delta.partitions import Slice, owners
from pipeline_assets.delta.type_errors import NullNotAllowed
from pipeline_assets.delta.types import bad_partition_value
from pipeline_assets.errors import NullPartition, RowsOutside


def by_key(output: str, files: Sequence[DataFile], slices: Sequence[Slice]) -> dict[str, list[DataFile]]:
    """The files of each partition key; those of none are refused. Raises RowsOutside, NullPartition."""
    owner = owners(slices)
    filed: dict[str, list[DataFile]] = {one.key: [] for one in slices}
    outside: list[DataFile] = []
    for file in files:
        refuse_partition_value(output, file.values)
        key = owner(file.values)
        if key is None:
            outside.append(file)
        else:
            filed[key].append(file)
    if outside:
        raise RowsOutside(
            output=output,
            partitions=[one.key for one in slices],
            rows=sum(file.rows for file in outside),
            values=outside[0].values,
        )
    return filed


def refuse_partition_value(output: str, values: Mapping[str, Any]) -> None:
    """Raise NullPartition for a value of a partition column that would not be found again."""
    for column, value in values.items():
        why = bad_partition_value(value)
        if why is not None:
            raise NullPartition(output=output, column=column, why=why)


def refuse_nulls(output: str, files: Sequence[DataFile], schema: Schema) -> None:
    """Raise NullNotAllowed for NULLs in a NOT NULL column, which delta-rs would commit."""
    required = [field.name for field in schema.fields if not field.nullable]
    for column in required:
        nulls = sum(file.nulls.get(column, 0) for file in files)
        if nulls:
            raise NullNotAllowed(output=output, column=column, rows=nulls)
