"""What a pipeline says is to become of a run of it that fails."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy.policies import LONGEST, no_backoff

ON_FAILURE_TAG = "pipeline_assets/on_failure"
TIMES_TAG = "pipeline_assets/on_failure_times"
BACKOFF_TAG = "pipeline_assets/on_failure_backoff"
ROLLBACK, ROLLBACK_FAILED, RESUME = "rollback", "rollback_failed", "resume"
ACTIONS = (ROLLBACK, ROLLBACK_FAILED, RESUME)
MOST_TIMES = 1000
_JITTER = 0.25


@dataclass(frozen=True)
class OnFailure:
    """What is done. times: how often a run chain is resumed. backoff: seconds before the first time, doubled with each."""

    action: str
    times: int = 3
    backoff: float = 60.0

    def wait_before(self, nth: int, run_id: str) -> float:
        """Seconds before a failed run is acted on, when so many were before; its jitter is the same whoever asks."""
        if no_backoff() or self.action != RESUME:
            return 0.0
        jitter = uuid.UUID(run_id).int % 1000 / 1000 * _JITTER
        return min(self.backoff * 2.0 ** min(nth, 60) * (1 + jitter), LONGEST)


def on_failure(action: str, *, times: int | None = None, backoff: float | None = None) -> dict[str, str]:
    """Tags for a job whose runs are recovered by themselves: `dg.define_asset_job(..., tags=on_failure("resume"))`.

    action: `rollback` (what the failed run chain committed is undone), `rollback_failed` (only that of the stages that failed
    and of what is downstream of them), `resume` (it is continued, up to `times` times (3) a chain, after backoff (60 s)
    * 2**n, with jitter). Raises ConfigurationError.
    """
    said = {ON_FAILURE_TAG: action}
    if action == RESUME:
        said |= {TIMES_TAG: str(OnFailure.times if times is None else times)}
        said |= {BACKOFF_TAG: f"{OnFailure.backoff if backoff is None else backoff:g}"}
    elif times is not None or backoff is not None:
        raise ConfigurationError(
            f"on_failure({action!r}) has times or backoff, which say how often a run is resumed. Nothing was changed; leave "
            "them out, or say 'resume'."
        )
    of_tags(said, "on_failure(...)")
    return said


def of_tags(tags: Mapping[str, str], whose: str) -> OnFailure:
    """What tags say. Raises ConfigurationError where they make no sense."""
    action = tags[ON_FAILURE_TAG]
    if action not in ACTIONS:
        raise ConfigurationError(
            f"{whose}: on_failure is {action!r}, and not one of {', '.join(ACTIONS)}. Nothing was changed; mend the tags of "
            "its job."
        )
    try:
        times, backoff = int(tags.get(TIMES_TAG, OnFailure.times)), float(tags.get(BACKOFF_TAG, OnFailure.backoff))
    except ValueError as error:
        raise ConfigurationError(
            f"{whose}: {error} in on_failure. Nothing was changed; mend the tags of its job."
        ) from error
    if not 1 <= times <= MOST_TIMES or not math.isfinite(backoff) or not 0 <= backoff <= LONGEST:
        raise ConfigurationError(
            f"{whose}: on_failure resumes {times} times, {backoff:g} s apart; times is 1 to {MOST_TIMES}, backoff 0 "
            f"to {LONGEST:.0f}. Nothing was changed; mend the tags of its job."
        )
    return OnFailure(action, times, backoff)
