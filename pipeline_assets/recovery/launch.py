"""A run as a person asks for it: of a pipeline, for a partition or a range, of some stages; made, and not begun."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition, RepositoryDefinition
from dagster._core.definitions.asset_selection import DagsterInvalidAssetSelectionError
from dagster._core.definitions.backfill_policy import BackfillPolicyType
from dagster._core.definitions.partitions.context import PartitionLoadingContext, partition_loading_context
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import (
    DagsterInvalidConfigError,
    DagsterInvalidSubsetError,
    DagsterInvariantViolationError,
    DagsterUnknownPartitionError,
)
from dagster._core.execution.api import create_execution_plan
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._core.utils import make_new_run_id

from pipeline_assets.errors import PermanentError
from pipeline_assets.io.unchanged import FORCE_TAG
from pipeline_assets.processes import place_tag
from pipeline_assets.recovery.code_location import ANY_ASSETS, with_loggers
from pipeline_assets.recovery.pipelines import NoSuchPipeline

_MOST = 5
"""So many keys are named."""


class NotStarted(PermanentError):
    """A run that cannot be as it was asked for; none was started."""


@dataclass(frozen=True)
class Pipeline:
    """What a name means: a job, and of the job of all assets those of a group, or with a prefix. assets: None for all."""

    job: str
    assets: frozenset[AssetKey] | None = None


@dataclass(frozen=True)
class Part:
    """What one of the runs that were asked for makes: a name for people, and the tags that say so to Dagster."""

    name: str | None
    tags: Mapping[str, str]


def pipeline_of(repository: RepositoryDefinition, name: str) -> Pipeline:
    """The job that a person means, by its name, with or without `_job`, an asset group or a prefix of asset keys.

    Raises NoSuchPipeline.
    """
    for job in (name, f"{name}_job"):
        if repository.has_job(job):
            return Pipeline(job)
    graph = repository.asset_graph
    grouped: dict[str, set[AssetKey]] = {}
    prefixed: dict[str, set[AssetKey]] = {}
    for key in graph.executable_asset_keys:
        grouped.setdefault(str(graph.get(key).group_name), set()).add(key)
        prefixed.setdefault("/".join(key.path[:-1]), set()).add(key)
    found = grouped.get(name) or prefixed.get(name)
    if not found:
        raise NoSuchPipeline(name, {*repository.job_names, *grouped, *filter(None, prefixed)} - {ANY_ASSETS})
    return Pipeline(ANY_ASSETS, frozenset(found))


def narrowed(repository: RepositoryDefinition, definition: JobDefinition, pipeline: Pipeline, select: str) -> Pipeline:
    """A pipeline's stages that Dagster's asset selection syntax selects. Raises NotStarted where it has none of them."""
    of_job = pipeline.assets if pipeline.assets is not None else frozenset(definition.asset_layer.executable_asset_keys)
    try:
        asked = dg.AssetSelection.from_string(select).resolve(repository.asset_graph)
    except (DagsterInvalidAssetSelectionError, DagsterInvalidSubsetError) as error:
        raise NotStarted(
            f"{select!r} selects nothing: {str(error).splitlines()[0]} Nothing was started; its syntax is that of Dagster's "
            "asset selections, as 'key:\"flights/legs\"+'."
        ) from error
    chosen = frozenset(asked) & of_job
    if not chosen:
        stages = ", ".join(sorted(key.to_user_string() for key in of_job))
        raise NotStarted(
            f"{select!r} selects no stage of {pipeline.job}, which has {stages}. Nothing was started; name some of them."
        )
    return Pipeline(pipeline.job, chosen)


def parts_of(
    instance: DagsterInstance,
    definition: JobDefinition,
    assets: AbstractSet[AssetKey] | None,
    partition: str | None,
    span: tuple[str, str] | None,
) -> list[Part]:
    """The runs that make a partition, or a range of them (the first and the last key), in order. Raises NotStarted.

    A range is one run where all partitioned assets have the backfill policy `single_run`, else a run a partition.
    """
    partitions = _partitions_of(definition, assets)
    if partitions is None:
        if partition is not None or span is not None:
            raise NotStarted(f"{definition.name} has no partitions. Nothing was started; run it without one.")
        return [Part(None, {})]
    with partition_loading_context(dynamic_partitions_store=instance) as context:
        known = _Keys(definition.name, partitions, context)
        if partition is not None:
            return [known.part(partition)]
        if span is None:
            raise NotStarted(
                f"{definition.name} is partitioned. Nothing was started; say which: --partition K, or --from K --to K "
                f"({known.some()})."
            )
        for key in span:
            known.check(key)
        keys = list(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(*span)))
        if not keys:
            raise NotStarted(
                f"There is no partition from {span[0]} to {span[1]}. Nothing was started; name the first one first."
            )
        if _in_one_run(definition, assets):
            tags = {ASSET_PARTITION_RANGE_START_TAG: span[0], ASSET_PARTITION_RANGE_END_TAG: span[1]}
            return [Part(f"{span[0]} … {span[1]}", tags)]
        return [known.part(key) for key in keys]


def created_run(
    instance: DagsterInstance,
    job: ReconstructableJob,
    assets: frozenset[AssetKey] | None,
    part: Part,
    config: Mapping[str, Any],
    loggers: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> DagsterRun:
    """A run that has not begun, which this process is to look after. Raises NotStarted where its configuration does not fit.

    loggers: the `loggers` of the configuration, where it says none and the job has such. force: unchanged stages run, too.
    """
    chosen = job.get_subset(asset_selection=assets) if assets is not None else job
    definition = chosen.get_definition()
    run_id = make_new_run_id()
    tags = {**definition.run_tags, **part.tags, **place_tag(run_id), **({FORCE_TAG: "true"} if force else {})}
    if not config and definition.partitioned_config is not None and PARTITION_NAME_TAG in part.tags:
        config = definition.partitioned_config.get_run_config_for_partition_key(part.tags[PARTITION_NAME_TAG])
    config = with_loggers(definition, config, loggers)
    loaded = job.repository.get_definition().repository_load_data
    try:
        execution = create_execution_plan(chosen, config, tags=tags, repository_load_data=loaded)
    except (DagsterInvalidConfigError, DagsterInvariantViolationError) as error:
        raise NotStarted(f"{definition.name} was not started: {error}") from error
    return instance.create_run_for_job(
        job_def=definition,
        run_id=run_id,
        execution_plan=execution,
        run_config=config,
        tags=tags,
        asset_selection=assets,
        job_code_origin=job.get_python_origin(),
        repository_load_data=loaded,
    )


def _partitions_of(
    definition: JobDefinition, assets: AbstractSet[AssetKey] | None
) -> dg.PartitionsDefinition[Any] | None:
    """The partitions that a run of these assets has. Raises NotStarted where there are several kinds."""
    layer = definition.asset_layer
    chosen = assets if assets is not None else layer.executable_asset_keys
    found = {layer.get(key).partitions_def for key in chosen} - {None}
    if len(found) > 1:
        raise NotStarted(
            f"The stages of {definition.name} have {len(found)} kinds of partitions, and a run has one. Nothing was started; "
            "--select stages that have the same."
        )
    return next(iter(found), definition.partitions_def if not chosen else None)


@dataclass(frozen=True)
class _Keys:
    """The partition keys that a job of this name has."""

    job: str
    partitions: dg.PartitionsDefinition[Any]
    context: PartitionLoadingContext

    def part(self, key: str) -> Part:
        """The run of one. Raises NotStarted."""
        self.check(key)
        return Part(key, dict(self.partitions.get_tags_for_partition_key(key)))

    def check(self, key: str) -> None:
        """Raise NotStarted where it is none of them."""
        try:
            self.partitions.validate_partition_key(key, self.context)
        except DagsterUnknownPartitionError as error:
            raise NotStarted(
                f"{self.job} has no partition {key}. Nothing was started; there are {self.some()}."
            ) from error

    def some(self) -> str:
        """A few, for people."""
        keys: Sequence[str] = self.partitions.get_partition_keys()
        if len(keys) <= _MOST:
            return ", ".join(keys) or "none yet"
        return f"{keys[0]}, {keys[1]}, … {keys[-1]}, {len(keys)} in all"


def _in_one_run(definition: JobDefinition, assets: AbstractSet[AssetKey] | None) -> bool:
    layer = definition.asset_layer
    chosen = assets if assets is not None else layer.executable_asset_keys
    partitioned = [layer.get(key) for key in chosen if layer.get(key).partitions_def is not None]
    policies = [one.backfill_policy for one in partitioned]
    return bool(policies) and all(
        one is not None and one.policy_type is BackfillPolicyType.SINGLE_RUN for one in policies
    )
