"""What is tried again, how often and when; and what the event log says of it."""

import http.server
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from deltalake import DeltaTable, Field, Schema, write_deltalake

from pipeline_assets import DeltaCheckpointIOManager, stage
from pipeline_assets.delta.type_errors import NullNotAllowed
from pipeline_assets.errors import Throttled
from pipeline_assets.policy import guard
from pipeline_assets.policy.guard import StageFailed
from pipeline_assets.policy.policies import NO_BACKOFF, Policy
from pipeline_assets_tests.io_manager.running import failure, rows, run

ONE = pl.DataFrame({"n": [1]})


class Flaky:
    """Raises, so often, what it is given; counts its calls."""

    def __init__(self, error: Callable[[], BaseException], times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error()


def events(result: dg.ExecuteInProcessResult) -> list[dict[str, Any]]:
    """The metadata of the attempts that failed, with the event's text as `said`."""
    found = []
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ENGINE_EVENT and "stage/attempt" in event.engine_event_data.metadata:
            metadata = {name: value.value for name, value in event.engine_event_data.metadata.items()}
            found.append({"said": event.message, **metadata})
    return found


def log(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[dict[str, Any]]:
    """The same from the event log, where engine events are that no step yields."""
    found = []
    for entry in instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "stage/attempt" in metadata:
            found.append({"said": entry.message, **{name: value.value for name, value in metadata.items()}})
    return found


def waits(result: dg.ExecuteInProcessResult) -> list[float]:
    """Seconds that Dagster was told to wait before each further attempt."""
    retries = [event for event in result.all_events if event.is_step_up_for_retry]
    return [event.step_retry_data.seconds_to_wait or 0.0 for event in retries]


def test_a_wait_in_the_callers_own_process_hears_ctrl_c(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NO_BACKOFF)

    @stage(min_retry_interval=60, max_retry_interval=60)
    def unreachable() -> pl.DataFrame:
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
        raise ConnectionResetError

    began = time.monotonic()
    result = run(instance, tmp_path, [unreachable], ok=False)
    assert log(instance, result)[-1]["said"] == "unreachable: the run is to stop, so there is no other attempt"
    assert time.monotonic() - began < 30


def test_a_second_signal_while_the_first_is_told_does_not_let_the_stage_be_tried_again(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody presses Ctrl-C twice."""
    flaky = Flaky(KeyboardInterrupt, 1)

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    def interrupted(*_: object) -> int:
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr(guard, "failures", interrupted)
    result = run(instance, tmp_path, [numbers], ok=False)
    assert (result.success, flaky.calls, waits(result)) == (False, 1, [])


def test_a_transient_error_is_tried_again_until_it_is_gone(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 2)

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    result = run(instance, tmp_path, [numbers])
    assert flaky.calls == 3
    assert rows(tmp_path, "numbers") == [(1,)]
    assert [one["stage/attempt"] for one in log(instance, result)] == [1, 2]


def test_a_permanent_error_is_not_tried_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: TypeError("no such thing"), 1)

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    result = run(instance, tmp_path, [numbers], ok=False)
    assert flaky.calls == 1
    assert "numbers failed, it is not tried again: permanent, TypeError" in failure(result)


def test_what_the_io_manager_refuses_is_not_tried_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    calls = []

    @stage
    def numbers() -> pl.LazyFrame:
        calls.append(1)
        return pl.LazyFrame({"n": [object()]})

    result = run(instance, tmp_path, [numbers], ok=False)
    assert calls == [1]
    assert "permanent, UnsupportedType" in failure(result)


def test_what_fails_while_a_lazy_frame_is_written_is_tried_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """The work of a lazy frame is done by the IO manager, not by the function."""
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 1)

    def rows_of(frame: pl.DataFrame) -> pl.DataFrame:
        flaky()
        return frame

    @stage(transient=lambda error: "ConnectionResetError" in str(error))
    def numbers() -> pl.LazyFrame:
        return ONE.lazy().map_batches(rows_of)

    run(instance, tmp_path, [numbers])
    assert flaky.calls == 2
    assert DeltaTable(tmp_path / "public" / "numbers").version() == 0


def test_what_fails_while_an_input_is_read_is_judged_too(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage
    def numbers() -> pl.DataFrame:
        return ONE

    @stage
    def copied(numbers: pl.LazyFrame) -> pl.LazyFrame:
        return numbers

    result = run(instance, tmp_path, [numbers, copied], ok=False, selection=["copied"])
    assert "copied failed, it is not tried again: permanent, NotMaterialized" in failure(result)


def test_attempts_end_when_all_have_failed(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 99)

    @stage(max_retries=2)
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    result = run(instance, tmp_path, [numbers], ok=False)
    assert flaky.calls == 3
    assert "numbers failed, attempt 3 of 3 was the last: transient" in failure(result)


def test_without_retries_a_stage_fails_at_once(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 1)

    @stage(max_retries=0)
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    run(instance, tmp_path, [numbers], ok=False)
    assert flaky.calls == 1


@pytest.mark.parametrize("rule", [KeyError, lambda error: "odd" in str(error)], ids=["type", "predicate"])
def test_a_stage_may_call_an_error_transient(rule: Any, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: KeyError("odd"), 1)

    @stage(transient=rule)
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    run(instance, tmp_path, [numbers])
    assert flaky.calls == 2


def test_a_stage_may_call_an_error_permanent(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 1)

    @stage(permanent=[ConnectionError])
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    run(instance, tmp_path, [numbers], ok=False)
    assert flaky.calls == 1


def test_the_event_of_an_attempt_says_what_follows_and_where_the_table_is(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    flaky = Flaky(lambda: Throttled("S3 503"), 1)

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    result = run(instance, tmp_path, [numbers])
    (said,) = log(instance, result)
    assert said["said"] == "numbers: attempt 2 of 4 in 0 s: transient, Throttled"
    assert (said["stage/error_class"], said["stage/wait_seconds"]) == ("Throttled", 0.0)
    assert said["table of numbers"] == str(tmp_path / "public" / "numbers")
    assert said["to continue"] == f"pipeline-assets resume {result.run_id}"


def test_who_calls_a_stage_that_failed_finds_the_error_itself(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage
    def numbers() -> pl.DataFrame:
        raise ZeroDivisionError

    with pytest.raises(StageFailed) as failed:
        dg.materialize(
            [numbers],
            instance=instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path))},
        )
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


def test_a_generator_that_fails_in_its_middle_is_tried_again_and_what_it_committed_is_adopted(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    flaky = Flaky(lambda: ConnectionResetError("by peer"), 1)

    @stage(outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both() -> Iterator[dg.Output[pl.DataFrame]]:
        yield dg.Output(ONE, output_name="left")
        flaky()
        yield dg.Output(ONE, output_name="right")

    run(instance, tmp_path, [both])
    assert [DeltaTable(tmp_path / "public" / name).version() for name in ("left", "right")] == [0, 0]


@pytest.fixture
def busy_server() -> Iterator[str]:
    """An HTTP server that is too busy the first time, and asks to be left alone for a while."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(1)
            self.send_response(429 if len(asked) == 1 else 200)
            if len(asked) == 1:
                self.send_header("Retry-After", "2")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_retry_after_is_honoured(
    instance: dg.DagsterInstance, tmp_path: Path, busy_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NO_BACKOFF)

    @stage(min_retry_interval=0, max_retry_interval=0.01)
    def numbers() -> pl.DataFrame:
        try:
            with urllib.request.urlopen(busy_server):
                return ONE
        except urllib.error.HTTPError as refusal:
            refusal.close()  # else its socket is, some time, with a warning
            raise

    began = time.monotonic()
    result = run(instance, tmp_path, [numbers])
    assert waits(result) == [2.0]
    assert time.monotonic() - began >= 2.0
    assert log(instance, result)[0]["said"] == "numbers: attempt 2 of 4 in 2 s: transient, HTTP 429"


def test_waits_grow_between_the_intervals_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NO_BACKOFF)
    policy = Policy(max_retries=9, min_retry_interval=10, max_retry_interval=100)
    drawn = {failures: [policy.wait_after(failures) for _ in range(200)] for failures in (1, 2, 3, 4, 50)}
    for failures, longest in ((1, 20), (2, 40), (3, 80), (4, 100), (50, 100)):
        assert all(10 <= wait <= longest for wait in drawn[failures])
        assert max(drawn[failures]) > longest * 0.9
        assert len(set(drawn[failures])) > 100


@pytest.mark.parametrize("off", ["", "0", "false"])
def test_a_switch_that_is_off_is_off(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NO_BACKOFF, off)
    assert Policy(max_retries=9, min_retry_interval=10, max_retry_interval=100).wait_after(3, asked=60) >= 60


def test_in_tests_nothing_waits() -> None:
    assert Policy(max_retries=9, min_retry_interval=10, max_retry_interval=100).wait_after(3, asked=60) == 0.0


def test_a_null_where_none_may_be_is_bad_data_and_not_tried_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    DeltaTable.create(tmp_path / "public" / "numbers", Schema([Field("n", "long", nullable=False)]))
    calls = []

    @stage
    def numbers() -> pl.DataFrame:
        calls.append(1)
        return pl.DataFrame({"n": [None]}, schema={"n": pl.Int64})

    assert NullNotAllowed.__name__ in failure(run(instance, tmp_path, [numbers], ok=False))
    assert calls == [1]


@pytest.mark.parametrize("compacts", [True, False])
def test_a_file_that_maintenance_takes_while_it_is_read_is_read_again_from_where_it_went(
    compacts: bool, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    table = tmp_path / "public" / "source"
    for number in (1, 2):
        write_deltalake(table, pl.DataFrame({"n": [number]}), mode="append")
    calls = []

    @stage(max_retries=1)
    def copied(source: pl.LazyFrame) -> pl.LazyFrame:
        calls.append(1)
        if len(calls) == 1 and compacts:
            delta = DeltaTable(table)
            delta.optimize.compact()
            delta.vacuum(0, enforce_retention_duration=False, dry_run=False)
        elif len(calls) == 1:
            next(table.glob("*.parquet")).unlink()
        return source

    result = run(instance, tmp_path, [dg.AssetSpec("source"), copied], ok=compacts)
    (said,) = log(instance, result)
    if compacts:
        assert rows(tmp_path, "copied") == [(1,), (2,)]
        assert said["stage/error_class"] == "UnderMaintenance"
        assert "of source took a file that was being read" in said["said"]
    else:
        assert "it is not tried again: permanent" in said["said"]


def test_a_rule_that_raises_ends_the_stage_and_is_named_with_the_error(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @stage(transient=lambda error: error.code == 5)
    def numbers() -> pl.DataFrame:
        raise ValueError("the real reason")

    said = failure(run(instance, tmp_path, [numbers], ok=False))
    assert "a rule of transient or permanent raised AttributeError, asked about ValueError" in said
    assert "the real reason" in said


def test_who_asks_to_be_left_alone_for_a_day_is_not_waited_for(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    calls = []

    @stage
    def numbers() -> pl.DataFrame:
        calls.append(1)
        raise Throttled("tomorrow", retry_after=86_400)

    said = failure(run(instance, tmp_path, [numbers], ok=False))
    assert "which asks to be left alone for 86400 s" in said
    assert calls == [1]


@pytest.mark.parametrize(("final", "calls"), [(True, 1), (False, 2)])
def test_dagsters_own_failure_is_tried_again_if_it_allows_that(
    final: bool, calls: int, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    flaky = Flaky(lambda: dg.Failure("by hand", allow_retries=not final), 1)

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    run(instance, tmp_path, [numbers], ok=not final)
    assert flaky.calls == calls


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no exception groups")
@pytest.mark.parametrize(("second", "calls"), [(ConnectionResetError, 2), (TypeError, 1)])
def test_a_group_of_exceptions_is_tried_again_if_all_of_them_would_be(
    second: type[Exception], calls: int, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    flaky = Flaky(lambda: ExceptionGroup("tasks", [ConnectionResetError(), second()]), 1)  # noqa: F821

    @stage
    def numbers() -> pl.DataFrame:
        flaky()
        return ONE

    run(instance, tmp_path, [numbers], ok=calls == 2)
    assert flaky.calls == calls
