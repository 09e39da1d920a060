"""What is worth retrying: an exception of whatever library becomes a class of `errors.py`."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pipeline_assets.errors import PermanentError, ProgrammingError, ServiceUnavailable, TransientError
from pipeline_assets.policy.known_failures import KNOWN
from pipeline_assets.policy.verdict import Finding, Verdict, named

__all__ = ["Rule", "Verdict", "classify"]

Rule: TypeAlias = type[BaseException] | Callable[[BaseException], bool]
"""A class, or a question to ask of an exception."""


def classify(error: BaseException, transient: Sequence[Rule] = (), permanent: Sequence[Rule] = ()) -> Verdict:
    """What an exception means for another try.

    The user's `permanent` rules are asked first, then the `transient` ones, then the table. What the table says stays
    the kind where a rule agrees with it; else the kind is ProgrammingError or ServiceUnavailable.

    Exceptions that wrap another hand the question on: Dagster's around a stage's, SQLAlchemy's around the driver's,
    URLError around the socket's. So does an exception whose class tells nothing, as RuntimeError or one of the user's
    own, but only to what it was raised `from`: that is its author's word for the reason. What was merely being handled
    (`__context__`) counts for nothing, as a KeyError in an `except ConnectionError` is a bug; nor does a class that
    tells something, as ValueError, ask its cause. Of a group each exception is asked. Rules are asked about each on the way.

    What nobody knows is permanent, as ProgrammingError. So is MemoryError, which the same rows meet again, and a panic
    of a Rust library unless its text is a storage's. Interrupts (KeyboardInterrupt, SystemExit, GeneratorExit,
    DagsterExecutionInterruptedError) are no failures: callers let them pass and never ask.
    """
    layers = list(_layers(error, lambda one: classify(one, transient, permanent)))
    verdict = next((found for _, found in reversed(layers) if isinstance(found, Verdict)), None)
    verdict = verdict or named(ProgrammingError, error)
    if any(_matches(one, permanent) for one, _ in layers):
        return verdict if not verdict.transient else Verdict(ProgrammingError, verdict.said)
    if any(_matches(one, transient) for one, _ in layers):
        return verdict if verdict.transient else Verdict(ServiceUnavailable, verdict.said, verdict.retry_after)
    return verdict


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a group of exceptions: that of the first which is permanent, else of the one that asks for the longest wait."""
    permanent = next((one for one in verdicts if not one.transient), None)
    return permanent or max(verdicts, key=lambda one: one.retry_after or 0.0)


def _matches(error: BaseException, rules: Sequence[Rule]) -> bool:
    return any(isinstance(error, rule) if isinstance(rule, type) else rule(error) for rule in rules)


def _layers(error: BaseException, judge: Callable[[BaseException], Verdict]) -> Iterator[tuple[BaseException, Finding]]:
    """The exception and those that it hands the question on to, each with what was found; the last may have a verdict.

    judge: what one of a group means.
    """
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        group = _members(one)
        found = _worst([judge(each) for each in group]) if group else _found(one)
        yield one, found
        if isinstance(found, Verdict):
            return
        one = found or one.__cause__


def _members(error: BaseException) -> Sequence[BaseException]:
    """The exceptions of a group, also of the backport's; of another one none."""
    found = getattr(error, "exceptions", None)
    return found if isinstance(found, tuple) and all(isinstance(one, BaseException) for one in found) else ()


def _found(error: BaseException) -> Finding:
    """What our own classes say, else the first line of the table, over the class and its bases, that says something."""
    if isinstance(error, (PermanentError, TransientError)):
        return Verdict(type(error), type(error).__name__, getattr(error, "retry_after", None))
    for each in type(error).__mro__:
        entry = KNOWN.get(f"{each.__module__}.{each.__qualname__}")
        if entry is None:
            continue
        found = named(entry, error) if isinstance(entry, type) else entry(error)
        if found is not None:
            return found
    return None
