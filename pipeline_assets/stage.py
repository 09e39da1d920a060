"""`stage`: an asset that knows what is worth trying again, when its time is up, and when there is nothing to do."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, overload

import dagster as dg
from dagster import DagsterInvariantViolationError

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy import policies
from pipeline_assets.policy.clock import TimeIsUp
from pipeline_assets.policy.code_versions import code_version_of
from pipeline_assets.policy.failures import Rule
from pipeline_assets.policy.guard import guarded
from pipeline_assets.policy.policies import POLICY, Policy, policy_of
from pipeline_assets.policy.running import running_of
from pipeline_assets.policy.standing import placeholders, standing
from pipeline_assets.policy.watching import GRACE_SECONDS

_SEVERAL = {"outs", "specs", "can_subset", "internal_asset_deps"}
"""What `@dg.multi_asset` takes and `@dg.asset` does not."""


@overload
def stage(compute_fn: Callable[..., Any], /) -> dg.AssetsDefinition: ...


@overload
def stage(
    *,
    max_retries: int = ...,
    min_retry_interval: float = ...,
    max_retry_interval: float | None = ...,
    timeout: float | None = ...,
    retry_on_timeout: bool = ...,
    transient: Sequence[Rule] | Rule = ...,
    permanent: Sequence[Rule] | Rule = ...,
    skip_if_unchanged: bool = ...,
    fingerprint: Callable[..., Any] | None = ...,
    code_version: str | None = ...,
    **asset: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]: ...


def stage(
    compute_fn: Callable[..., Any] | None = None,
    /,
    *,
    max_retries: int = 3,
    min_retry_interval: float = 10.0,
    max_retry_interval: float | None = None,
    timeout: float | None = None,
    retry_on_timeout: bool = False,
    transient: Sequence[Rule] | Rule = (),
    permanent: Sequence[Rule] | Rule = (),
    skip_if_unchanged: bool = False,
    fingerprint: Callable[..., Any] | None = None,
    code_version: str | None = None,
    **asset: Any,
) -> dg.AssetsDefinition | Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`@dg.asset` (or `@dg.multi_asset`, with `outs` or `specs`) that survives failure; all other arguments are theirs.

    max_retries: how often an attempt that failed with a transient error is followed by another, in a run.
    min_retry_interval, max_retry_interval: seconds before it; exponential between them (at most 300 unless
    said otherwise), with jitter.
    timeout: seconds for an attempt, reading, computing and writing together. retry_on_timeout: whether it is then tried
    again.
    transient, permanent: exception types, or functions of an exception, on top of the default table (docs/guide.md).
    skip_if_unchanged: nothing is computed where the inputs' pinned versions, the code version, the configuration and the
    fingerprint are those of the newest good checkpoint. fingerprint: of what else the stage reads (`files_fingerprint`); a
    function without parameters, or of a partition key.
    code_version: by default a hash of the function's module and of the project's modules that it imports.

    Raises ConfigurationError for what does not go together.
    """

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        name = str(asset.get("name") or getattr(function, "__name__", function))
        policy = Policy(
            max_retries=max_retries,
            min_retry_interval=min_retry_interval,
            max_retry_interval=max(300.0, min_retry_interval) if max_retry_interval is None else max_retry_interval,
            timeout=timeout,
            retry_on_timeout=retry_on_timeout,
            transient=_rules(transient),
            permanent=_rules(permanent),
            skip_if_unchanged=skip_if_unchanged,
            fingerprint=fingerprint,
            code_version=code_version or code_version_of(function),
        )
        policy.refuse_impossible(name)
        _refuse_arguments(name, policy, asset)
        policies.defined.add(name)
        made = _defined(_wrapped(function, policy), policy, asset)
        _refuse_skipping_without_a_reason(name, policy, made)
        return made

    return decorate if compute_fn is None else decorate(compute_fn)


def _rules(given: Sequence[Rule] | Rule) -> tuple[Rule, ...]:
    return tuple(given) if isinstance(given, Sequence) else (given,)


def _refuse_arguments(name: str, policy: Policy, asset: dict[str, Any]) -> None:
    """What `@dg.asset` takes and a stage cannot keep its word with."""
    wrong = {
        "retry_policy": "it is made from max_retries, min_retry_interval and max_retry_interval",
        "check_specs": "a stage that is skipped evaluates no checks; write them as @dg.asset_check",
    }
    if not policy.skip_if_unchanged:
        del wrong["check_specs"]
    for argument in wrong.keys() & {key for key, value in asset.items() if value is not None}:
        raise ConfigurationError(
            f"Stage {name} cannot be defined with {argument}: {wrong[argument]}. Nothing was run; mend its @stage(...)."
        )


def _refuse_skipping_without_a_reason(name: str, policy: Policy, made: dg.AssetsDefinition) -> None:
    inputs = [one for one in made.op.input_defs if not one.dagster_type.is_nothing]
    if policy.skip_if_unchanged and policy.fingerprint is None and not inputs:
        raise ConfigurationError(
            f"Stage {name} cannot be defined with skip_if_unchanged: it has no input whose version could be compared, and no "
            "fingerprint. Nothing was run; give it `fingerprint=lambda: files_fingerprint(…)`, or no skip_if_unchanged."
        )


def _defined(function: Callable[..., Any], policy: Policy, asset: dict[str, Any]) -> dg.AssetsDefinition:
    asset = {**asset, "op_tags": {**policy.tags(), **(asset.get("op_tags") or {})}}
    if not _SEVERAL & {name for name, value in asset.items() if value is not None}:
        made: dg.AssetsDefinition = dg.asset(retry_policy=policy.stock(), code_version=policy.code_version, **asset)(
            function
        )
        return made
    specs = asset.get("specs")
    if specs is not None:
        versioned = [
            one if one.code_version else one.replace_attributes(code_version=policy.code_version) for one in specs
        ]
        return dg.multi_asset(retry_policy=policy.stock(), **{**asset, "specs": versioned})(function)
    return dg.multi_asset(retry_policy=policy.stock(), code_version=policy.code_version, **asset)(function)


def _step_context(policy: Policy) -> Any:
    """That of the step which executes the stage; None where the function is called by hand, also from another stage."""
    try:
        step_context = dg.AssetExecutionContext.get().get_step_execution_context()
    except DagsterInvariantViolationError:
        return None
    return step_context if policy_of(step_context) is policy else None


def _wrapped(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    """The function with what a stage does around it, of the same kind: Dagster asks for that."""
    if inspect.isasyncgenfunction(function):
        around: Callable[..., Any] = _async_generator(function, policy)
    elif inspect.iscoroutinefunction(function):
        around = _coroutine(function, policy)
    elif inspect.isgeneratorfunction(function):
        around = _generator(function, policy)
    else:
        around = _plain(function, policy)
    setattr(around, POLICY, policy)
    return around


def _plain(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        step_context = _step_context(policy)
        if step_context is None:
            return function(*args, **kwargs)
        with guarded(step_context):
            settled = standing(step_context)
            return placeholders(step_context, settled) if settled else function(*args, **kwargs)

    return run


def _generator(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        step_context = _step_context(policy)
        if step_context is None:
            yield from function(*args, **kwargs)
            return
        with guarded(step_context):
            settled = standing(step_context)
        made: Generator[Any, Any, None] = placeholders(step_context, settled) if settled else function(*args, **kwargs)
        try:
            while True:
                with guarded(step_context):
                    try:
                        value = next(made)
                    except StopIteration:
                        return
                yield value
        finally:
            made.close()

    return run


def _coroutine(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        step_context = _step_context(policy)
        if step_context is None:
            return await function(*args, **kwargs)
        with guarded(step_context):
            settled = standing(step_context)
            if settled:
                return placeholders(step_context, settled)
            return await _in_time(step_context, function(*args, **kwargs))

    return run


def _async_generator(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        step_context = _step_context(policy)
        if step_context is None:
            async for value in function(*args, **kwargs):
                yield value
            return
        with guarded(step_context):
            settled = standing(step_context)
        if settled:
            for value in placeholders(step_context, settled):
                yield value
            return
        made = function(*args, **kwargs)
        try:
            while True:
                with guarded(step_context):
                    try:
                        value = await _in_time(step_context, made.__anext__())
                    except StopAsyncIteration:
                        return
                yield value
        finally:
            await made.aclose()

    return run


async def _in_time(step_context: Any, awaited: Any) -> Any:
    """The result of an awaitable, or TimeIsUp: what waits in the event loop no signal should break out of."""
    attempt = running_of(step_context)
    assert attempt is not None
    attempt.clock.patient = True
    try:
        waiting = asyncio.ensure_future(awaited)
        done, _ = await asyncio.wait({waiting}, timeout=attempt.clock.left)
        if not done:
            waiting.cancel()
            await asyncio.wait({waiting}, timeout=GRACE_SECONDS)
            raise TimeIsUp(attempt.clock)
        return waiting.result()
    finally:
        attempt.clock.patient = False
