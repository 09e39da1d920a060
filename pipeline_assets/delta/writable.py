"""What a table asks of its writers, and whether we can do it (Delta protocol, "Requirements for Writers")."""

from collections.abc import Mapping

from deltalake import DeltaTable

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import ConfigurationError, UnsupportedTable

HARMLESS = frozenset(
    {"appendOnly", "invariants", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "domainMetadata"}
)
"""Writer features that ask nothing of a writer who adds and removes whole files with statistics.

`appendOnly` and `invariants` are only able to be used; whether they are is looked at by itself.
"""
_LOOKED_AT = frozenset(
    {
        "checkConstraints",
        "generatedColumns",
        "columnMapping",
        "identityColumns",
        "changeDataFeed",
        "inCommitTimestamp",
    }
)
"""Features that ask something only where a property or a column uses them; older protocols imply them by number."""
SWITCHES = {
    "delta.enableChangeDataFeed": "the change data feed (delta.enableChangeDataFeed)",
    "delta.enableDeletionVectors": "deletion vectors (delta.enableDeletionVectors)",
    "delta.enableRowTracking": "row tracking (delta.enableRowTracking)",
    "delta.enableIcebergCompatV1": "Iceberg compatibility (delta.enableIcebergCompatV1)",
    "delta.enableIcebergCompatV2": "Iceberg compatibility (delta.enableIcebergCompatV2)",
}
_OF_COMMITS = {
    "delta.enableInCommitTimestamps": "in-commit timestamps (delta.enableInCommitTimestamps)",
    "delta.setTransactionRetentionDuration": "delta.setTransactionRetentionDuration, by which it forgets who wrote what",
}
_OF_COLUMNS = {
    "delta.generationExpression": "a generated column",
    "delta.identity.start": "an identity column",
    "delta.identity.step": "an identity column",
    "delta.invariants": "a column invariant",
}
_CHECK = "delta.constraints."
_NOT_EVEN_ADOPTED = "Unset it, or use another table."
_UNSET = "Unset it, or write to another table; `pipeline-assets adopt` makes a checkpoint of what is there."


def refuse_unwritable(table: Table, mode: Mode) -> None:
    """Raise UnsupportedTable, by the feature's name, where our files would break a promise of the table's."""
    for feature in _asked(table.delta, mode):
        raise UnsupportedTable(table=table.location.uri, feature=feature, hint=_UNSET)


def refuse_uncommittable(table: Table) -> None:
    """Raise UnsupportedTable, by the feature's name, where even a commit without files would break a promise or be lost."""
    for feature in _asked_of_commits(table.delta):
        raise UnsupportedTable(table=table.location.uri, feature=feature, hint=_NOT_EVEN_ADOPTED)


def unwritable(table: Table, mode: Mode) -> list[str]:
    """The features for which `refuse_unwritable` refuses."""
    return _asked(table.delta, mode)


def refuse_configuration(table: str, configuration: Mapping[str, str | None], mode: Mode) -> None:
    """The same for the properties that a table is about to be created with. Raises ConfigurationError."""
    for feature in _asked_by(configuration, mode):
        raise ConfigurationError(
            f"table_config asks for {feature} of {table}, to which we could not write a second time. Nothing was written; "
            "remove it."
        )
    unknown = sorted(name for name in configuration if not name.startswith("delta."))
    if unknown:
        raise ConfigurationError(
            f"table_config has {', '.join(unknown)}; properties of a Delta table begin with 'delta.'. Nothing was written."
        )


def _asked_of_commits(delta: DeltaTable) -> list[str]:
    protocol = delta.protocol()
    found = [
        f"the writer feature {name!r}" for name in sorted(set(protocol.writer_features or ()) - HARMLESS - _LOOKED_AT)
    ]
    if protocol.min_writer_version > 7 or protocol.min_reader_version > 3:
        found.append(f"an unknown protocol ({protocol.min_reader_version}, {protocol.min_writer_version})")
    return found + _of_commits(delta.metadata().configuration)


def _of_commits(configuration: Mapping[str, str | None]) -> list[str]:
    return [text for name, text in _OF_COMMITS.items() if (configuration.get(name) or "false") != "false"]


def _asked(delta: DeltaTable, mode: Mode) -> list[str]:
    found = list(dict.fromkeys([*_asked_of_commits(delta), *_asked_by(delta.metadata().configuration, mode)]))
    for field in delta.schema().fields:
        found += [f"{text} ({field.name!r})" for name, text in _OF_COLUMNS.items() if name in field.metadata]
    return found


def _asked_by(configuration: Mapping[str, str | None], mode: Mode) -> list[str]:
    found = [text for name, text in SWITCHES.items() if configuration.get(name) == "true"]
    found += _of_commits(configuration)
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        found.append("column mapping (delta.columnMapping.mode)")
    checks = [name.removeprefix(_CHECK) for name in configuration if name.startswith(_CHECK)]
    found += [f"the CHECK constraint {name!r}" for name in checks]
    if configuration.get("delta.appendOnly") == "true" and mode is not Mode.APPEND:
        found.append("delta.appendOnly, while this write would replace rows")
    return found
