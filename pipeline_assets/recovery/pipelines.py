"""Which stages a pipeline's name means."""

from collections.abc import Iterable

from dagster import AssetKey
from dagster._core.definitions.repository_definition import RepositoryDefinition

from pipeline_assets.errors import PermanentError
from pipeline_assets.recovery.tables import NoSuchStage, Outputs


class NoSuchPipeline(PermanentError):
    """A pipeline that the code location does not have; nothing was changed."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        super().__init__(
            f"The code location has no pipeline {name}, that is no job (nor {name}_job), asset group or prefix of asset "
            f"keys; it has {', '.join(sorted(known)) or 'none'}. Nothing was changed; name one of those, or another code "
            "location with -m MODULE."
        )


def stages_of(
    repository: RepositoryDefinition, outputs: Outputs, pipeline: str | None = None, stage: str | None = None
) -> list[str]:
    """Names of the stages of a pipeline (None: all), in the order in which data flows; or the one that is asked for.

    pipeline: an asset group, the prefix of asset keys, or a job's name, with or without its `_job`. Raises NoSuchPipeline,
    NoSuchStage.
    """
    graph = repository.asset_graph
    wanted = set(outputs)
    if pipeline is not None:
        known = pipelines_of(repository, outputs)
        found = next((known[name] for name in (pipeline, f"{pipeline}_job") if name in known), None)
        if found is None:
            raise NoSuchPipeline(pipeline, known)
        wanted = found
    if stage is not None:
        if stage not in wanted and f"{pipeline}/{stage}" in wanted:
            stage = f"{pipeline}/{stage}"
        if stage not in wanted:
            raise NoSuchStage([stage], wanted)
        wanted = {stage}
    ordered = (key.to_user_string() for key in graph.toposorted_asset_keys)
    return [name for name in ordered if name in wanted]


def pipelines_of(repository: RepositoryDefinition, outputs: Outputs) -> dict[str, set[str]]:
    """The stages of each pipeline that there is. Where a name means several, a group goes before a prefix and a job."""
    found: dict[str, set[str]] = {}
    for job in repository.get_all_jobs():
        keys = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        if not job.name.startswith("__") and (stages := keys & outputs.keys()):
            found[job.name] = stages
    by_prefix: dict[str, set[str]] = {}
    by_group: dict[str, set[str]] = {}
    for name in outputs:
        if prefix := name.rpartition("/")[0]:
            by_prefix.setdefault(prefix, set()).add(name)
        by_group.setdefault(group_of(repository, name), set()).add(name)
    return {**found, **by_prefix, **by_group}


def group_of(repository: RepositoryDefinition, stage: str) -> str:
    """The asset group of a stage."""
    return repository.asset_graph.get(AssetKey(stage.split("/"))).group_name
