"""What a stage says of its attempts, and how Dagster's step is asked for it."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy.failures import Rule

POLICY = "__pipeline_assets_policy__"
"""The attribute of a stage's function that holds its policy."""
NO_BACKOFF = "PIPELINE_ASSETS_NO_BACKOFF"
"""Set to 1 in tests: nothing waits before it is tried again."""
_OFF = {"", "0", "false", "no"}

LONGEST = 1e8
"""Three years, in seconds; what is longer is no time-out, and more than a timer takes."""
defined: set[str] = set()
"""Names of the stages that were defined in this process."""


def no_backoff() -> bool:
    """Whether nothing is to wait before it is tried again, as in tests."""
    return os.environ.get(NO_BACKOFF, "").lower() not in _OFF


@dataclass(frozen=True)
class Policy:
    """How often and when a stage is tried again, how long an attempt may take, and when none is needed.

    Intervals and timeout in seconds. fingerprint: says what else the stage reads, beside its pinned inputs;
    with a parameter, what it reads for a partition.
    """

    max_retries: int = 0
    min_retry_interval: float = 0.0
    max_retry_interval: float = 0.0
    timeout: float | None = None
    retry_on_timeout: bool = False
    transient: tuple[Rule, ...] = ()
    permanent: tuple[Rule, ...] = ()
    skip_if_unchanged: bool = False
    fingerprint: Callable[..., Any] | None = None
    code_version: str = ""

    def refuse_impossible(self, name: str) -> None:
        """Raise ConfigurationError for numbers that make no sense, alone or together."""
        numbers: dict[str, Any] = {"max_retries": self.max_retries, "min_retry_interval": self.min_retry_interval}
        numbers |= {"max_retry_interval": self.max_retry_interval, "timeout": self.timeout or 1}
        for what, number in numbers.items():
            if not isinstance(number, (int, float)) or not abs(number) <= LONGEST:
                raise ConfigurationError(
                    f"Stage {name} cannot be defined: {what} is {number!r}, and not a number up to {LONGEST:.0f}. Nothing "
                    "was run; mend its @stage(...)."
                )
        wrong = {
            "max_retries is no whole number": not _is(int, self.max_retries),
            "retry_on_timeout is neither True nor False": not _is(bool, self.retry_on_timeout),
            "skip_if_unchanged is neither True nor False": not _is(bool, self.skip_if_unchanged),
            "fingerprint is no function": self.fingerprint is not None and not callable(self.fingerprint),
            "max_retries is negative": self.max_retries < 0,
            "min_retry_interval is negative": self.min_retry_interval < 0,
            "max_retry_interval is below min_retry_interval": self.max_retry_interval < self.min_retry_interval,
            "timeout is not above 0": self.timeout is not None and not self.timeout > 0,
            "retry_on_timeout is set without a timeout": self.retry_on_timeout and self.timeout is None,
            "retry_on_timeout is set with max_retries=0": self.retry_on_timeout and self.max_retries == 0,
            "fingerprint is given without skip_if_unchanged": self.fingerprint is not None
            and not self.skip_if_unchanged,
        }
        for why in (why for why, is_so in wrong.items() if is_so):
            raise ConfigurationError(f"Stage {name} cannot be defined: {why}. Nothing was run; mend its @stage(...).")
        for rule in (*self.transient, *self.permanent):
            if not _is_rule(rule):
                raise ConfigurationError(
                    f"Stage {name} cannot be defined: {rule!r} in transient or permanent is neither an exception class nor a "
                    "function that takes an exception. Nothing was run; mend its @stage(...)."
                )

    def wait_after(self, failures: int, asked: float | None = None) -> float:
        """Seconds before the next attempt, after so many that failed: exponential, with jitter, between the intervals.

        asked: by the far end (`Retry-After`); it is never contacted sooner.
        """
        if no_backoff():
            return 0.0
        longest = min(self.max_retry_interval, self.min_retry_interval * 2.0 ** min(failures, 60))
        return max(random.uniform(self.min_retry_interval, longest), asked or 0.0)  # noqa: S311  jitter

    def tags(self) -> dict[str, str]:
        """The numbers as tags of the op, where the UI shows them; its pages leave out the stock policy."""
        waits = f"{self.min_retry_interval:g} to {self.max_retry_interval:g} s apart"
        return {
            "pipeline_assets/retries": f"{self.max_retries}, {waits}" if self.max_retries else "none",
            "pipeline_assets/timeout": "none" if self.timeout is None else f"{self.timeout:g} s",
            "pipeline_assets/retry_on_timeout": str(self.retry_on_timeout).lower(),
            "pipeline_assets/skip_if_unchanged": str(self.skip_if_unchanged).lower(),
        }

    def stock(self) -> dg.RetryPolicy | None:
        """What an executor goes by where the step's process was killed. No page of Dagster's UI shows it."""
        if self.max_retries == 0:
            return None
        return dg.RetryPolicy(
            max_retries=self.max_retries,
            delay=0 if no_backoff() else self.min_retry_interval,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        )


def _is_rule(rule: Any) -> bool:
    return issubclass(rule, BaseException) if isinstance(rule, type) else callable(rule)


def _is(kind: type, value: Any) -> bool:
    """Whether people gave what the annotation says."""
    return isinstance(value, kind)


def policy_of(step_context: Any) -> Policy | None:
    """The policy of the stage that a step executes; None where it is no stage."""
    if step_context is None:
        return None
    function = getattr(step_context.op_def.compute_fn, "decorated_fn", None)
    found = getattr(function, POLICY, None)
    return found if isinstance(found, Policy) else None
