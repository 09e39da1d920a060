"""How an attempt of a stage begins: what is there already is not computed again."""

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from hashlib import blake2b
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
from dagster._core.types.dagster_type import PythonObjectDagsterType, TypeHintInferredDagsterType

from pipeline_assets.delta.handles import keep, newest
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.io.step_outputs import Written, begun, stored_by, written_by
from pipeline_assets.io.steps import Outcome, Step
from pipeline_assets.io.unchanged import FORCE_TAG, committed, unchanged
from pipeline_assets.policy.plain import Untold, exactly, plain, type_name
from pipeline_assets.policy.policies import Policy, policy_of

Settled = Mapping[str, dict[str, Outcome]]
_EMPTY: Mapping[Any, Any] = {
    pl.DataFrame: pl.DataFrame,
    pl.LazyFrame: pl.LazyFrame,
    pa.Table: lambda: pa.table({}),
    pa.RecordBatchReader: lambda: pa.table({}).to_reader(),
    Any: pl.LazyFrame,
}
_BY_PYTHON = (PythonObjectDagsterType, TypeHintInferredDagsterType)
"""The Dagster types whose check is `isinstance`."""


def standing(step_context: Any) -> Settled | None:
    """What stands for each output of the step, by its name, so that nothing is to be computed; None where something is.

    What this run chain has committed already counts as soon as that is all of it (then it is adopted), and what is
    unchanged since it was made, where the stage says so.
    """
    policy = policy_of(step_context)
    step = begun(step_context)
    outputs = written_by(step_context)
    if policy is None or not outputs or len(outputs) < len(stored_by(step_context)):
        return None
    if policy.skip_if_unchanged:
        step.made_by = _made_by(step_context, policy, {key for one in outputs for key in one.keys})
    may_skip = policy.skip_if_unchanged and _may_skip(step_context, step, policy)
    found = {}
    for one in outputs:
        stands = _stands(step, one, step_context, may_skip=may_skip)
        if stands is None:
            return None
        found[one.output.name] = stands
    step.settled = found
    return found


def placeholders(step_context: Any, settled: Settled) -> Generator[dg.Output[Any], None, None]:
    """An empty value of its type for each output of the step: the IO manager knows what stands, and writes nothing."""
    for one in written_by(step_context):
        if one.output.name in settled:
            yield dg.Output(_EMPTY[_type_of(step_context, one)](), output_name=one.output_name)


def _stands(step: Step, one: Written, step_context: Any, *, may_skip: bool) -> dict[str, Outcome] | None:
    if not one.keys or _type_of(step_context, one) not in _EMPTY:
        return None
    table = newest(one.output.location)
    if table is None:
        return None
    found = committed(step, one, table)
    if found is None and may_skip:
        found = unchanged(step, one, table, _checks_of(step_context, one))
    if found is None:
        keep(table)
    else:
        step.tables[one.output.name] = table
    return found


def _may_skip(step_context: Any, step: Step, policy: Policy) -> bool:
    """Whether all that the stage reads is known by version, or by the fingerprint that it declares."""
    if step_context.dagster_run.tags.get(FORCE_TAG, "false") != "false":
        return False
    # Also of `deps`, of which nobody knows what is read.
    return policy.fingerprint is not None or (
        bool(step.reads) and len(step.reads) == len(step_context.op_def.input_defs)
    )


def _made_by(step_context: Any, policy: Policy, keys: Iterable[str]) -> Callable[[str], Mapping[str, str]]:
    """For a partition's key: code version, configuration of the op and of resources, and fingerprint, as short text.

    Fingerprints are taken now, before anything is read: what changes while it is read is a change.
    """
    resolved = step_context.resolved_run_config
    node = resolved.ops.get(str(step_context.node_handle))
    managers = _io_managers(step_context)
    own = step_context.required_resource_keys - managers
    needed = _with_their_own(step_context.job_def.resource_defs, own)
    resources = {key: resolved.resources[key].config for key in sorted(needed) if key in resolved.resources}
    used = step_context.scoped_resources_builder.build(own)._asdict() if own else {}
    values = {key: plain(value) for key, value in used.items()}
    config = {"op": node.config if node else None, "resources": resources, "values": values}
    shared = {"code": policy.code_version, "config": _short(plain(config))}

    if policy.fingerprint is None:
        return lambda _: shared
    name = step_context.op_def.name
    taken = {key: {**shared, "fingerprint": _short(_fingerprint(name, policy.fingerprint, key))} for key in keys}
    return taken.__getitem__


def _fingerprint(name: str, function: Callable[..., Any], key: str) -> str:
    """What the function says, as text; one that takes a parameter is asked for the partition."""
    takes = [one for one in inspect.signature(function).parameters.values() if one.default is one.empty]
    said = function(key) if takes else function()
    try:
        return exactly(said)
    except Untold as untold:
        inside = "" if untold.name == type_name(said) else f" (in a {type_name(said)})"
        raise ConfigurationError(
            f"The fingerprint of stage {name} is of the type {untold.name}{inside}, of which cannot be told what it holds: "
            "a change would not be seen. Nothing was computed or written. Let its function return what changes with the "
            "data: a number, a text, bytes, a date, files_fingerprint(...), a collection of these, a DataFrame, an array."
        ) from untold


def _with_their_own(definitions: Mapping[str, dg.ResourceDefinition], keys: Iterable[str]) -> set[str]:
    """Keys of resources, and of those that they need."""
    found: set[str] = set()
    open_ = set(keys)
    while open_:
        found |= open_
        open_ = {more for key in open_ for more in definitions[key].required_resource_keys} - found
    return found


def _io_managers(step_context: Any) -> set[str]:
    return {one.io_manager_key for one in step_context.op_def.output_defs}


def _short(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _type_of(step_context: Any, one: Written) -> Any:
    """The Python type of an output; None where a type check of the user's would judge a placeholder."""
    dagster_type = step_context.op_def.output_def_named(one.output_name).dagster_type
    return dagster_type.typing_type if dagster_type.is_any or isinstance(dagster_type, _BY_PYTHON) else None


def _checks_of(step_context: Any, one: Written) -> set[dg.AssetCheckKey]:
    graph = step_context.job_def.asset_layer.asset_graph
    return set(graph.get_check_keys_for_assets({one.output.asset_key})) if one.output.asset_key is not None else set()
