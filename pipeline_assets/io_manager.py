"""Dagster's side of reading and writing: `DeltaCheckpointIOManager`."""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster import DagsterInvariantViolationError, InputContext, OutputContext
from dagster._core.execution.plan.outputs import StepOutputHandle
from pydantic import Field
from typing_extensions import override

from pipeline_assets.delta import handles
from pipeline_assets.delta.files import ParquetOptions
from pipeline_assets.delta.location import READ_TIMEOUT, RETRIES, RETRY_TIMEOUT, Location
from pipeline_assets.delta.probe import refuse_without_conditional_put
from pipeline_assets.delta.table import open_table
from pipeline_assets.delta.values import from_lazy, to_lazy
from pipeline_assets.errors import NotMaterialized
from pipeline_assets.io import pins, temporary
from pipeline_assets.io.events import keep_data_version, report
from pipeline_assets.io.foreign import each_reads_its_own, warning_of
from pipeline_assets.io.hearing import pins_of_others
from pipeline_assets.io.merge_config import MergeConfig, SchemaMode, WriteMode
from pipeline_assets.io.outputs import Output, Settings, of_input, of_output, partition_keys
from pipeline_assets.io.python_types import TYPES, UnsupportedValue, load_type
from pipeline_assets.io.reading import declared_empty, frame_of, missing, read
from pipeline_assets.io.step_outputs import begun, handles_of
from pipeline_assets.io.steps import ComputeAgain, Step
from pipeline_assets.io.storage_config import AzureConfig, ClientConfig, GcsConfig, LocalConfig, S3Config
from pipeline_assets.io.writing import Writer
from pipeline_assets.policy import watching
from pipeline_assets.policy.commands import located, module_of, to_begin
from pipeline_assets.policy.guard import guarded
from pipeline_assets.policy.policies import policy_of
from pipeline_assets.step_starts import listen

AGAIN = 1_000_000
"""How often an attempt may be told to compute again: as often as others are faster, which ends when they do."""


class DeltaCheckpointIOManager(dg.ConfigurableIOManagerFactory["CheckpointIOManager"]):
    """Stores assets and op outputs as Delta tables that are written exactly once, and read at recorded versions.

    It takes the configuration of dagster-deltalake's `DeltaLakeIOManager`, and works with a plain `@dg.asset`:

        resources={"io_manager": DeltaCheckpointIOManager(root_uri="data", storage_options=LocalConfig())}

    Values: `pl.LazyFrame` (streamed in and out), `pl.DataFrame`, `pa.Table`, `pa.RecordBatchReader`; as an input also a
    `dict` of partition key → one of them. An input without annotation is a `pl.LazyFrame`.

    Metadata of an asset or `Out`: `partition_expr` (the column of the partitions, or a dict of columns by dimension),
    `schema`, `mode`, `schema_mode`, `allow_empty`, `merge_config`, `merge_predicate`, `custom_metadata`; of an `AssetIn`
    or `In`: `columns`. The table is `<root_uri>/<schema>/<asset name>`.

    Raises subclasses of `PipelineAssetsError`; a PermanentError is not mended by trying again.
    """

    root_uri: str = Field(description="Where the tables lie: a folder, or the URI of an object store.")
    storage_options: AzureConfig | S3Config | LocalConfig | GcsConfig = Field(
        default_factory=LocalConfig, discriminator="provider", description="How the storage is reached."
    )
    client_options: ClientConfig | None = Field(default=None, description="Options of the HTTP client.")
    mode: WriteMode = Field(default=WriteMode.overwrite, description="What a write does with rows that are there.")
    schema_mode: SchemaMode | None = Field(
        default=None,
        description="Which change of a table's columns is allowed: none, 'merge' adds, 'overwrite' any.",
    )
    overwrite_schema: bool = Field(default=False, description="dagster-deltalake's word for schema_mode 'overwrite'.")
    merge_config: MergeConfig | None = Field(default=None, description="How rows are merged with mode 'merge'.")
    table_config: dict[str, str] | None = Field(default=None, description="Delta properties of tables it creates.")
    schema_: str | None = Field(default=None, alias="schema", description="The folder of all tables.")
    custom_metadata: dict[str, str] | None = Field(default=None, description="Added to each commit.")
    writer_properties: dict[str, str] | None = Field(
        default=None,
        description="`compression`, `compression_level`, `max_row_group_size` and `data_page_size_limit` of data files.",
    )
    writer_engine: str | None = Field(default=None, description="Accepted for dagster-deltalake's sake; no effect.")
    commit_timeout: float = Field(
        default=300.0,
        description="Seconds for which a commit is tried, and a rollback at work is waited for.",
    )
    storage_read_timeout: float = Field(
        default=120.0,
        gt=0,
        description="Seconds for which an object store may be silent in the middle of a data file.",
    )
    storage_retries: int | None = Field(
        default=None,
        ge=0,
        description="How often an object store's client repeats a request by itself; by default as the client likes.",
    )
    storage_retry_timeout: float = Field(
        default=30.0,
        ge=0,
        description="Seconds after which an object store's client repeats a request no more.",
    )

    @staticmethod
    def default_load_type() -> type:
        """What an input without annotation is loaded as; a subclass may say otherwise, as with dagster-deltalake."""
        return pl.LazyFrame

    def create_io_manager(self, context: dg.InitResourceContext | None) -> "CheckpointIOManager":
        """The IO manager of one process."""
        watching.prepare()
        if context is not None and context.instance is not None and context.run is not None:
            listen(context.instance, context.run.run_id)
        return CheckpointIOManager(self.settings(), self.default_load_type())

    @override
    def _initialize_and_run(self, context: Any) -> "CheckpointIOManager":
        """With what the run knows (environment, launch), once a process: Dagster does it three times a run, 6 ms each."""
        if self.nested_resources:
            made: CheckpointIOManager = super()._initialize_and_run(context)
            return made
        known = type(self), json.dumps(context.resource_config, sort_keys=True, default=str)
        if known not in _configured:
            _configured[known] = self._with_updated_values(context.resource_config)
        configured: DeltaCheckpointIOManager = _configured[known]
        return configured.create_io_manager(context)

    def settings(self) -> Settings:
        """The configuration without Dagster's clothes. Raises ConfigurationError."""
        options = _spelled(self.storage_options)
        if self.client_options is not None:
            options |= _spelled(self.client_options)
        options.pop("provider", None)
        if not isinstance(self.storage_options, LocalConfig):
            options |= self._patience()
        return Settings(
            root=Location.of(self.root_uri, options),
            schema=self.schema_,
            mode=self.mode,
            schema_mode=SchemaMode.overwrite if self.overwrite_schema else self.schema_mode,
            merge=self.merge_config,
            table_config=dict(self.table_config or {}),
            custom_metadata=dict(self.custom_metadata or {}),
            parquet=ParquetOptions.of(self.writer_properties or {}),
            commit_seconds=self.commit_timeout,
        )

    def _patience(self) -> dict[str, str]:
        """How long and how often an object store's clients try, before a stage hears of it (docs/decisions/0019)."""
        patience = {
            READ_TIMEOUT: f"{self.storage_read_timeout:g}s",
            RETRY_TIMEOUT: f"{self.storage_retry_timeout:g}s",
        }
        return patience if self.storage_retries is None else {**patience, RETRIES: str(self.storage_retries)}


_configured: dict[tuple[type, str], Any] = {}
"""The managers of this process by their class and what they were configured with."""


def _spelled(config: dg.Config) -> dict[str, str]:
    """A storage configuration as delta-rs and polars take it: text, booleans in small letters, nothing that is unset."""
    return {name: _text(name, value) for name, value in config.model_dump().items() if value is not None}


def _text(name: str, value: Any) -> str:
    """An option's value; dagster-deltalake has seconds as numbers, which all clients want with their unit."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value}s" if isinstance(value, int) and name.endswith(("_timeout", "_interval")) else str(value)


class CheckpointIOManager(dg.IOManager):
    """What `DeltaCheckpointIOManager` makes for a run."""

    def __init__(self, settings: Settings, default_load_type: type) -> None:
        self.settings, self.default_load_type = settings, default_load_type

    def load_input(self, context: InputContext) -> Any:
        """The rows of an input at its pinned version. Raises NotMaterialized, ForeignData, DamagedTable, UnsupportedTable."""
        with guarded(_step_context(context)):
            return self._load(context)

    def _load(self, context: InputContext) -> Any:
        wants, by_partition = load_type(context, self.default_load_type)
        output = of_input(context, self.settings)
        refuse_without_conditional_put(self.settings.root)
        step = begun(_step_context(context))
        keys = partition_keys(context)
        own = _writes_itself(context, output, keys)
        if not keys or (own and open_table(output.location) is None):
            return _nothing(output, wants, by_partition=by_partition)
        found = read(step, output, keys, _source_run(context))
        found.own_key = each_reads_its_own(_step_context(context), output)
        run = getattr(_step_context(context), "dagster_run", None)
        if said := warning_of(found):
            context.log.warning(located(said, module_of(run) if run is not None else None))
        absent = missing(found)
        present = [key for key in keys if key not in set(absent)]
        if not present and own:
            return _nothing(output, wants, by_partition=by_partition)
        if not present:
            raise NotMaterialized(output=output.name, partitions=keys, table=output.location.uri)
        if absent:
            context.log.info("%s: %s of %s partitions are there and are read.", output.name, len(present), len(keys))
        columns = (context.definition_metadata or {}).get("columns")
        anew = to_begin(run) if run is not None else ""
        if by_partition:
            return {key: from_lazy(frame_of(found, [key], columns, new_run=anew), wants) for key in present}
        return from_lazy(frame_of(found, present, columns, new_run=anew), wants)

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Write a value exactly once. Raises subclasses of PipelineAssetsError; out of a `stage` what it makes of them."""
        with guarded(_step_context(context)):
            self._handle(context, obj)

    def _handle(self, context: OutputContext, obj: Any) -> None:
        if obj is None:
            raise DagsterInvariantViolationError(
                "Unexpected 'None' output value. If a 'None' value is intentional, set the output"
                " type to None by adding return type annotation '-> None'."
            )
        if not isinstance(obj, TYPES):
            raise UnsupportedValue.returned(type(obj), context)
        refuse_without_conditional_put(self.settings.root)
        step = begun(_step_context(context))
        writer = Writer(step, of_output(context, self.settings), partition_keys(context))
        if writer.output.name in step.settled:
            writer.table, writer.outcomes = step.tables[writer.output.name], step.settled[writer.output.name]
        else:
            try:
                writer.write(to_lazy(obj))
            except ComputeAgain as again:
                _retry(context, step, again)
        other = pins_of_others(step, writer.outcomes.values()) if len(handles_of(_step_context(context))) > 1 else {}
        if other:
            why = f"{writer.output.name} was committed by an earlier attempt, from other inputs"
            _retry(context, step, ComputeAgain(other, why))
        if said := temporary.warning_of(step.instance, writer.output, writer.outcomes):
            context.log.warning(said)
        report(context, writer)
        if policy_of(_step_context(context)) is not None:
            keep_data_version(context, writer)
        handles.keep(writer.table)


def _nothing(output: Output, wants: Any, *, by_partition: bool) -> Any:
    return {} if by_partition else from_lazy(declared_empty(output), wants)


def _writes_itself(context: InputContext, output: Output, keys: Sequence[str]) -> bool:
    """Whether the step that reads these partitions is the one that writes them: a range with its own beginning in it."""
    step_context = _step_context(context)
    for one in step_context.step.step_outputs if step_context is not None else ():
        if one.asset_key is not None and one.asset_key == output.asset_key:
            written = step_context.get_output_context(StepOutputHandle(step_context.step.key, one.name))
            return set(keys) <= set(partition_keys(written))
    return False


def _retry(context: OutputContext, step: Step, again: ComputeAgain) -> None:
    if step.instance is None:
        raise again
    raised = {name: pin for name, pin in again.pins.items() if pin != step.pins.get(name)}
    if raised:
        pins.tell(step.instance, step.attempt, raised)
    context.log.info("Nothing was written: %s. The step is computed again.", again.reason)
    raise dg.RetryRequested(max_retries=AGAIN) from again


def _step_context(context: InputContext | OutputContext) -> Any:
    return context._step_context  # noqa: SLF001  the public one raises where a value is loaded by hand


def _source_run(context: InputContext) -> str | None:
    """The run that made an op's output; Dagster names a parent's where this run does not execute the op."""
    upstream = context.upstream_output
    return None if upstream is None or upstream.has_asset_key else upstream.run_id
