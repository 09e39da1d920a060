"""What an output is: its name in the protocol, its table, its partitions, and how it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterInvariantViolationError,
    InputContext,
    OutputContext,
    PartitionsDefinition,
)

from pipeline_assets.delta.commit import RESERVED
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.files import ParquetOptions
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.io.merge_config import MergeConfig, SchemaMode, WriteMode
from pipeline_assets.io.partitions import PARTITION_EXPR, Wanted, partition_columns, wanted

DEFAULT_SCHEMA = "public"
OP = "op:"
"""What the name of an op's output begins with, which no asset's key does."""


@dataclass(frozen=True)
class Settings:
    """How the outputs of an IO manager are written, unless an asset's metadata says otherwise."""

    root: Location
    schema: str | None = None
    mode: WriteMode = WriteMode.overwrite
    schema_mode: SchemaMode | None = None
    merge: MergeConfig | None = None
    table_config: Mapping[str, str | None] = field(default_factory=dict)
    custom_metadata: Mapping[str, Any] = field(default_factory=dict)
    parquet: ParquetOptions = field(default_factory=ParquetOptions)
    commit_seconds: float = 300.0
    """How long a commit is tried, and a rollback at work waited for."""


@dataclass(frozen=True)
class Output:
    """One output of a step, or the output that an input reads.

    name: as the protocol spells it: the asset's key, or for an op its step, output name and mapping key.
    """

    name: str
    asset_key: AssetKey | None
    location: Location
    table_name: str
    metadata: Mapping[str, Any]
    partitions_def: PartitionsDefinition[Any] | None
    settings: Settings

    @property
    def write_mode(self) -> WriteMode:
        """The asset's `mode`, else the IO manager's. Raises ConfigurationError."""
        found = self.metadata.get("mode")
        return self.settings.mode if found is None else _choice(WriteMode, found, "mode", self.name)

    @property
    def mode(self) -> Mode:
        """What a write does with the rows that are there."""
        return {WriteMode.append: Mode.APPEND, WriteMode.merge: Mode.MERGE}.get(self.write_mode, Mode.OVERWRITE)

    @property
    def schema_mode(self) -> SchemaMode | None:
        """Which change of the schema the asset, else the IO manager, allows. Raises ConfigurationError."""
        if self._flag("overwrite_schema"):
            return SchemaMode.overwrite
        found = self.metadata.get("schema_mode")
        return self.settings.schema_mode if found is None else _choice(SchemaMode, found, "schema_mode", self.name)

    @property
    def allows_empty(self) -> bool:
        """Whether an empty frame may replace rows: metadata `allow_empty`. Raises ConfigurationError."""
        return self._flag("allow_empty")

    def _flag(self, name: str) -> bool:
        found = getattr(self.metadata.get(name), "value", self.metadata.get(name))
        if found not in (None, True, False):
            raise ConfigurationError(
                f"{self.name} has {name} {found!r} in its metadata; it may be True or False. Nothing was written."
            )
        return bool(found)

    def refuse_bad_choices(self) -> None:
        """Raise ConfigurationError where the metadata has a choice that is none, whether or not this write needs it."""
        _ = self.write_mode, self.schema_mode, self.allows_empty, self.custom_metadata
        if self.mode is Mode.MERGE:
            _ = self.merge

    @property
    def merge(self) -> MergeConfig:
        """How rows are merged; the asset's `merge_predicate` replaces the IO manager's. Raises ConfigurationError."""
        config = self.settings.merge
        own = self.metadata.get("merge_config")
        if own is not None:
            config = own if isinstance(own, MergeConfig) else self._merge_config(own)
        predicate = self.metadata.get("merge_predicate")
        if config is not None and predicate is not None:
            config = config.model_copy(update={"predicate": predicate})
        if config is None or not config.predicate:
            raise ConfigurationError(
                f"{self.name} is written with mode 'merge', but has no merge_config with a predicate. Nothing was "
                "written. Set it at the IO manager, or as metadata 'merge_config' of the asset."
            )
        return config

    def _merge_config(self, own: Any) -> MergeConfig:
        try:
            return MergeConfig(**own)
        except (TypeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise ConfigurationError(
                f"{self.name} has a merge_config in its metadata that is none: {why}. Nothing was written."
            ) from error

    @property
    def custom_metadata(self) -> Mapping[str, Any]:
        """The user's own commit metadata. Raises ConfigurationError."""
        found = dict(self.metadata.get("custom_metadata") or self.settings.custom_metadata)
        taken = sorted(RESERVED & found.keys())
        if taken:
            raise ConfigurationError(
                f"{self.name} has custom_metadata {', '.join(taken)}, which the commit needs for itself. Nothing was "
                "written; choose another name."
            )
        return found

    @property
    def columns(self) -> list[str]:
        """Columns that the table is partitioned by."""
        return partition_columns(self.name, self.partitions_def, self.metadata.get(PARTITION_EXPR))

    def wanted(self, keys: Sequence[str]) -> tuple[Wanted, ...]:
        """What some of its partition keys ask for."""
        return wanted(self.name, self.partitions_def, keys, self.metadata.get(PARTITION_EXPR))


def of_output(context: OutputContext, settings: Settings) -> Output:
    """The output that a step hands to its IO manager. Raises ConfigurationError for a partition that nobody named."""
    definition = _partitions_def(context)
    if definition is not None and not context.has_asset_partitions:
        raise ConfigurationError(
            f"{context.asset_key.to_user_string()} has partitions, but its run has no partition key, so it is not known "
            "which of its rows are to be replaced. Nothing was written; materialize a partition "
            "(`--partition KEY`, or `partition_key=` in Python)."
        )
    return _output(context, settings, definition)


def of_input(context: InputContext, settings: Settings) -> Output:
    """The output that an input reads."""
    upstream = context.upstream_output
    if upstream is None:
        raise ConfigurationError(
            f"Input {context.name!r} has no upstream output or asset, so there is no table to read. "
            "Nothing was read; give it an asset, or another input manager."
        )
    return _output(upstream, settings, _partitions_def(context), context.asset_key if context.has_asset_key else None)


def of_asset(
    asset_key: AssetKey,
    metadata: Mapping[str, Any],
    definition: PartitionsDefinition[Any] | None,
    settings: Settings,
) -> Output:
    """The output of an asset, outside of any step."""
    schema, table = table_of(asset_key, metadata, settings.schema)
    location = settings.root.child(*schema.split("/"), table)
    return Output(asset_key.to_user_string(), asset_key, location, f"{schema}.{table}", metadata, definition, settings)


def partition_keys(context: OutputContext | InputContext) -> list[str]:
    """The partition keys that a step writes or reads; one that is none where there are no partitions.

    A value that is loaded by hand without a key is that of all partitions.
    """
    definition = _partitions_def(context)
    if definition is None:
        return [WHOLE]
    if context.has_asset_partitions:
        return list(context.asset_partition_keys)
    return list(definition.get_partition_keys(dynamic_partitions_store=_instance(context)))


def _partitions_def(context: OutputContext | InputContext) -> PartitionsDefinition[Any] | None:
    """How the asset is partitioned, also in a run without a partition key."""
    if not context.has_asset_key:
        return None
    try:
        return context.asset_partitions_def
    except DagsterInvariantViolationError:  # Dagster's way to say that there are none
        return None


def _instance(context: OutputContext | InputContext) -> DagsterInstance | None:
    return context.instance if isinstance(context, InputContext) else context.step_context.instance


def table_of(asset_key: AssetKey, metadata: Mapping[str, Any], schema: str | None) -> tuple[str, str]:
    """Schema and table of an asset, by dagster-deltalake's rule: metadata, configuration, key prefix, `public`."""
    path = asset_key.path
    prefix = path[-2] if len(path) > 1 else DEFAULT_SCHEMA
    return str(metadata.get("schema") or schema or prefix), path[-1]


def _output(
    context: OutputContext,
    settings: Settings,
    definition: PartitionsDefinition[Any] | None,
    asset_key: AssetKey | None = None,
) -> Output:
    metadata = {**(context.definition_metadata or {})}
    if asset_key is None and context.has_asset_key:
        asset_key = context.asset_key
    if asset_key is not None:
        return of_asset(asset_key, metadata, definition, settings)
    schema = str(metadata.get("schema") or settings.schema or DEFAULT_SCHEMA)
    table = str(metadata.get("table") or context.name)
    name = f"{OP}{context.step_key}.{context.name}"
    if context.mapping_key:
        table, name = f"{table}.{context.mapping_key}", f"{name}[{context.mapping_key}]"
    location = settings.root.child(*schema.split("/"), table)
    return Output(name, None, location, f"{schema}.{table}", metadata, definition, settings)


def is_of_op(name: str) -> bool:
    """Whether an output's name is that of an op."""
    return name.startswith(OP)


def _choice(choices: Any, found: Any, what: str, name: str) -> Any:
    try:
        return choices(getattr(found, "value", found))
    except ValueError as error:
        allowed = ", ".join(repr(choice.value) for choice in choices)
        raise ConfigurationError(
            f"{name} has {what} {found!r} in its metadata; it may be {allowed}. Nothing was written."
        ) from error
