"""Rules, our own errors, wrappers, and mistakes of the code."""

import json
import socket
import subprocess
import sys

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.errors import (
    BadData,
    NetworkError,
    PermissionDenied,
    ProgrammingError,
    ServiceUnavailable,
    StorageConflict,
    Throttled,
    UnderMaintenance,
)
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets_tests.policy.failing import free_port, judged, raised


class Unheard(Exception):
    """A class that no table knows."""


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("error", [TypeError(), KeyError("a"), AttributeError(), AssertionError(), RecursionError()])
def test_a_mistake_of_the_code_is_permanent(error: Exception) -> None:
    assert classify(error) == Verdict(ProgrammingError, type(error).__name__)


def test_so_is_what_the_interpreter_raises_itself() -> None:
    assert judged(lambda: 1 // 0) == Verdict(ProgrammingError, "ZeroDivisionError")
    assert judged(lambda: undefined) == Verdict(ProgrammingError, "NameError")  # noqa: F821 - meant
    assert judged(lambda: bytearray(2**62)) == Verdict(ProgrammingError, "MemoryError")


@pytest.mark.parametrize("call", [lambda: int("n/a"), lambda: json.loads("{"), b"\xff".decode])
def test_a_value_that_is_none_is_bad_data(call: object) -> None:
    assert judged(call).kind is BadData


@pytest.mark.parametrize("error", [Exception("?"), Unheard(), RuntimeError(), OSError("?")])
def test_what_nobody_knows_is_permanent(error: Exception) -> None:
    assert classify(error) == Verdict(ProgrammingError, type(error).__name__)


def test_our_own_errors_keep_their_class() -> None:
    assert classify(StorageConflict("?")) == Verdict(StorageConflict, "StorageConflict")
    assert classify(UnderMaintenance("?")).transient
    assert not classify(PermissionDenied("?")).transient


def test_a_stage_s_own_error_class_keeps_it_too() -> None:
    class Late(Throttled):
        """The far end's nightly load is not done."""

    assert classify(Late("?", retry_after=60)) == Verdict(Late, "Late", 60)


@pytest.mark.parametrize("kind", [Throttled, ServiceUnavailable])
def test_the_seconds_to_wait_are_handed_on(kind: type[Throttled] | type[ServiceUnavailable]) -> None:
    assert classify(kind("?", retry_after=7)).retry_after == 7
    assert classify(kind("?")).retry_after is None


def test_our_own_errors_come_through_polars() -> None:
    def fail(_: pl.DataFrame) -> pl.DataFrame:
        raise Throttled("?", retry_after=7)

    assert judged(lambda: pl.LazyFrame({"n": [1]}).map_batches(fail).collect()).kind is Throttled


def test_a_transient_rule_makes_it_transient() -> None:
    verdict = classify(KeyError("a"), transient=[LookupError])
    assert verdict == Verdict(ServiceUnavailable, "KeyError")


def test_a_rule_may_ask_the_exception() -> None:
    def not_yet(error: BaseException) -> bool:
        return "not yet" in str(error)

    assert classify(Unheard("not yet there"), transient=[not_yet]).transient
    assert not classify(Unheard("never"), transient=[not_yet]).transient


def test_permanent_rules_are_asked_first() -> None:
    verdict = classify(ConnectionResetError(), transient=[OSError], permanent=[ConnectionError])
    assert verdict == Verdict(ProgrammingError, "ConnectionResetError")


def test_a_rule_that_agrees_with_the_table_leaves_its_kind() -> None:
    assert classify(ConnectionResetError(), transient=[OSError]).kind is NetworkError
    assert classify(json.JSONDecodeError("?", "", 0), permanent=[ValueError]).kind is BadData


def test_a_permanent_rule_forgets_the_seconds_to_wait() -> None:
    assert classify(Throttled("?", retry_after=7), permanent=[Throttled]) == Verdict(ProgrammingError, "Throttled")


@pytest.mark.parametrize("outer", [RuntimeError(), Exception(), Unheard(), OSError("?")])
def test_a_class_that_tells_nothing_is_judged_by_what_it_was_raised_from(outer: Exception) -> None:
    assert classify(chained(outer, ConnectionResetError())) == Verdict(NetworkError, "ConnectionResetError")
    assert not classify(chained(outer, KeyError("a"))).transient


def test_so_is_one_that_was_raised_from_a_group() -> None:
    lost = ExceptionGroup("tasks", [ConnectionResetError()])  # noqa: F821
    mistaken = ExceptionGroup("tasks", [ConnectionResetError(), KeyError()])  # noqa: F821
    assert classify(chained(RuntimeError(), lost)) == Verdict(NetworkError, "ConnectionResetError")
    assert not classify(chained(RuntimeError(), mistaken)).transient
    assert not classify(lost, permanent=[ExceptionGroup]).transient  # noqa: F821


def test_a_class_that_tells_something_is_not() -> None:
    assert classify(chained(ValueError(), ConnectionResetError())).kind is BadData


def test_what_was_merely_being_handled_counts_for_nothing() -> None:
    def handle() -> None:
        try:
            socket.create_connection(("127.0.0.1", free_port()))
        except ConnectionRefusedError:
            raise Unheard  # noqa: B904 - meant

    error = raised(handle)
    assert isinstance(error.__context__, ConnectionRefusedError)
    assert not classify(error).transient


def test_an_exception_that_is_its_own_cause_is_judged_in_the_end() -> None:
    one, other = Unheard(), RuntimeError()
    chained(one, chained(other, one))
    assert classify(one) == Verdict(ProgrammingError, "Unheard")


def test_rules_see_what_is_wrapped() -> None:
    wrapped = chained(RuntimeError(), ConnectionResetError())
    assert not classify(wrapped, permanent=[ConnectionError]).transient
    assert not classify(wrapped, permanent=[ConnectionError], transient=[RuntimeError]).transient


def test_what_a_stage_raises_comes_through_dagster() -> None:
    @dg.op
    def fetch() -> None:
        raise ConnectionResetError

    @dg.job
    def fetching() -> None:
        fetch()

    assert judged(fetching.execute_in_process).kind is NetworkError


def test_so_does_its_wrapper_around_a_resource_s_failure() -> None:
    @dg.resource
    def database(_: dg.InitResourceContext) -> None:
        raise ConnectionResetError

    @dg.op(required_resource_keys={"database"})
    def ask() -> None:
        """Needs it."""

    @dg.job(resource_defs={"database": database})
    def asking() -> None:
        ask()

    error = raised(asking.execute_in_process)
    assert isinstance(error, dg.DagsterResourceFunctionError)
    assert classify(error) == Verdict(NetworkError, "ConnectionResetError")


def test_a_wrong_run_config_is_a_wrong_configuration() -> None:
    class Settings(dg.Config):
        days: int

    @dg.op
    def count(config: Settings) -> None:
        """Needs a setting."""

    @dg.job
    def counting() -> None:
        count()

    verdict = judged(lambda: counting.execute_in_process(run_config={}))
    assert (verdict.kind.__name__, verdict.said) == ("ConfigurationError", "DagsterInvalidConfigError")


def test_a_failure_is_judged_by_its_cause_unless_its_author_rules_retries_out() -> None:
    assert classify(chained(dg.Failure("?"), ConnectionResetError())).transient
    assert not classify(chained(dg.Failure("?", allow_retries=False), ConnectionResetError())).transient
    assert not classify(dg.Failure("?")).transient


def test_who_asks_for_a_retry_gets_it() -> None:
    assert classify(dg.RetryRequested(seconds_to_wait=3)) == Verdict(ServiceUnavailable, "RetryRequested", 3)


def test_a_subprocess_that_takes_too_long_may_be_faster_the_next_time() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert judged(lambda: subprocess.run(sleep, timeout=0.01, check=True)).kind is ServiceUnavailable
    assert judged(lambda: subprocess.run([sys.executable, "-c", "1/0"], check=True, stderr=-3)).kind is ProgrammingError


def test_the_table_loads_no_library() -> None:
    script = (
        ""
        "import pipeline_assets.policy.failures; "
        "print(sorted({'polars', 'deltalake', 'dagster', 'requests', 'pyarrow', 'obstore'} & set(sys.modules)))"
    )
    # The package's own __init__ loads them: the modules are taken from beside it.
    bare = "import sys, types, importlib.util as u; p = types.ModuleType('pipeline_assets'); "
    bare += "p.__path__ = list(u.find_spec('pipeline_assets').submodule_search_locations); "
    bare += "sys.modules['pipeline_assets'] = p; "
    done = subprocess.run([sys.executable, "-c", bare + script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
