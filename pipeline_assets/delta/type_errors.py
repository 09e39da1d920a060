"""Errors about columns: their types, their names, their NULLs."""

from collections.abc import Sequence

from pipeline_assets.errors import SchemaError


class UnsupportedType(SchemaError):
    """A type that Delta has not, or that would be damaged on the way."""

    def __init__(self, *, column: str, dtype: str, why: str) -> None:
        self.column, self.dtype = column, dtype
        super().__init__(f"Column {column!r} has type {dtype}, {why}. Nothing was written; cast it in the stage.")


class BadColumnName(SchemaError):
    """A name that a Delta table cannot have."""

    def __init__(self, *, column: str, why: str) -> None:
        self.column = column
        super().__init__(f"Column {column!r} {why}. Nothing was written; rename it in the stage.")


class SchemaChanged(SchemaError):
    """The columns of a frame are not those of its table. setting: the `schema_mode` that would allow it; None: none does."""

    def __init__(
        self,
        *,
        output: str,
        added: Sequence[str],
        removed: Sequence[str],
        retyped: Sequence[str],
        setting: str | None,
    ) -> None:
        self.added, self.removed, self.retyped = tuple(added), tuple(removed), tuple(retyped)
        said = [
            f"{what} {', '.join(names)}"
            for what, names in (("added", added), ("removed", removed), ("retyped", retyped))
            if names
        ]
        removing = " Removed columns stay, and are NULL in the new rows." if removed and setting == "merge" else ""
        mend = (
            f"If that is meant, allow it with the metadata {{'schema_mode': '{setting}'}}.{removing}"
            if setting
            else "The rows that this write leaves would not fit any more, so that needs a new table, as with another "
            "'schema' in the metadata; or cast it back in the stage."
        )
        super().__init__(
            f"{output} has columns that are not those of its table: {'; '.join(said)}. Nothing was written. {mend}"
        )


class NullNotAllowed(SchemaError):
    """NULLs in a NOT NULL column."""

    def __init__(self, *, output: str, column: str, rows: int) -> None:
        self.column, self.rows = column, rows
        super().__init__(
            f"{output} returned {rows} rows with NULL in {column!r}, which is NOT NULL in its table. Nothing was "
            "written; fill them, or filter them out."
        )


class ValueLost(SchemaError):
    """A value that does not fit into the column's type. Takes its text alone: polars makes it anew on its way out."""

    @classmethod
    def of(cls, *, column: str, dtype: str, target: str, example: object) -> "ValueLost":
        """The error for a column, with a value that would be changed."""
        return cls(
            f"Column {column!r} ({dtype}) holds {example!r}, which {target} cannot hold. Nothing was written; cast it in "
            "the stage, as you want it rounded or cut."
        )
