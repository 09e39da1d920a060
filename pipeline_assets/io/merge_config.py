"""Configuration of writing that dagster-deltalake does not have; its field names are those of dagster-delta."""

from enum import Enum

import dagster as dg


class WriteMode(str, Enum):
    """What a write does with a table that is there; dagster-deltalake's modes, and merge."""

    error = "error"
    append = "append"
    overwrite = "overwrite"
    ignore = "ignore"
    merge = "merge"


class SchemaMode(str, Enum):
    """Which change of a table's schema is allowed: `merge` adds columns, `overwrite` replaces the schema."""

    overwrite = "overwrite"
    merge = "merge"


class MergeType(str, Enum):
    """What a merge does with source rows that match the predicate, that do not, and with target rows without match."""

    deduplicate_insert = "deduplicate_insert"
    update_only = "update_only"
    upsert = "upsert"
    replace_delete_unmatched = "replace_and_delete_unmatched"
    custom = "custom"


class WhenMatched(dg.Config):
    """Update the columns of a matching target row by expressions."""

    updates: dict[str, str]
    predicate: str | None = None


class WhenMatchedAll(dg.Config):
    """Update, or insert, all columns but some."""

    predicate: str | None = None
    except_cols: list[str] | None = None


class WhenDelete(dg.Config):
    """Delete target rows."""

    predicate: str | None = None


class MergeOperationsConfig(dg.Config):
    """The clauses of a custom merge, in delta-rs's words; each list is applied in order."""

    when_not_matched_insert: list[WhenMatched] | None = None
    when_not_matched_insert_all: list[WhenMatchedAll] | None = None
    when_matched_update: list[WhenMatched] | None = None
    when_matched_update_all: list[WhenMatchedAll] | None = None
    when_matched_delete: list[WhenDelete] | None = None
    when_not_matched_by_source_delete: list[WhenDelete] | None = None
    when_not_matched_by_source_update: list[WhenMatched] | None = None


class MergeConfig(dg.Config):
    """How rows are merged into a table.

    predicate: an SQL condition over both aliases, as `s.id = t.id`. merge_type `custom` takes the clauses of
    `merge_operations_config`.
    """

    merge_type: MergeType
    predicate: str | None = None
    source_alias: str | None = None
    target_alias: str | None = None
    merge_operations_config: MergeOperationsConfig | None = None
    error_on_type_mismatch: bool = True
