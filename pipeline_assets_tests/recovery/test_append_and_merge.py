"""What is appended and merged is there exactly once, also after a failed check, and when log clean-up took its commit."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from dagster._core.execution.api import execute_run
from deltalake import DeltaTable

from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.recovery.adopt import adopt
from pipeline_assets.recovery.on_failure import OnFailure
from pipeline_assets.recovery.recovering import continuing
from pipeline_assets.recovery.resume import Resumed, resume
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import children, evidence, ledger
from pipeline_assets_tests.recovery.rolling import code_location, told, values
from pipeline_assets_tests.recovery.test_foreign import clean_up_the_log

MODES = {"appended": {"mode": "append"}, "merged": ledger.BY_KEY}
AFTER_TWO = {"appended": [1, 2], "merged": [2]}
AFTER_ALL = {"appended": [1, 2, 3], "merged": [3]}


def job() -> dg.JobDefinition:
    return ledger.definitions().resolve_implicit_global_asset_job_def()


class Ledger:
    """The ledger's stages `source` and one more."""

    def __init__(self, instance: dg.DagsterInstance, tables: Location, name: str) -> None:
        self.instance, self.name, self.table = instance, name, tables.child("ledger", name)
        self.source = tables.child("ledger", "source")

    def run(self, value: int, *, broken: bool = False) -> str:
        """A run; its id."""
        told().write_text(str(value))
        if broken:
            ledger.switch().touch()
        chosen = [dg.AssetKey(["ledger", one]) for one in ("source", self.name)]
        done = job().execute_in_process(instance=self.instance, asset_selection=chosen, raise_on_error=False)
        ledger.switch().unlink(missing_ok=True)
        assert done.success is not broken
        return done.run_id

    def killed(self, value: int) -> str:
        """A run whose process dies right after it has committed: there is no event."""
        told().write_text(str(value))
        start = children.materialize(ledger.__name__, f"ledger/source,ledger/{self.name}")
        done = children.run(start, children.crash_at("after_commit", f"ledger/{self.name}"))
        assert done.returncode == children.KILLED, done.stderr
        return self.instance.get_runs(limit=1)[0].run_id

    def clean_up(self) -> None:
        """The table's log forgets all that was committed, and so does this process."""
        clean_up_the_log(self.table)
        log_of.cache_clear()

    def resume(self, run: str) -> Resumed:
        return resume(self.instance, run, job())

    def adopt(self) -> list[str]:
        repository = ledger.definitions().get_repository_def()
        return list(adopt(self.instance, repository, f"ledger/{self.name}").partitions)

    @property
    def values(self) -> list[int]:
        return values(self.table, "value")

    @property
    def event(self) -> dict[str, Any]:
        """The newest."""
        return evidence.events(self.instance, f"ledger/{self.name}")[0]


@pytest.fixture(params=["appended", "merged"])
def each(request: pytest.FixtureRequest, instance: dg.DagsterInstance, tables: Location) -> Ledger:
    return Ledger(instance, tables, request.param)


@pytest.fixture
def merged(instance: dg.DagsterInstance, tables: Location) -> Ledger:
    return Ledger(instance, tables, "merged")


def said(instance: dg.DagsterInstance, run: str | None) -> str:
    return evidence.messages(instance, str(run))


class Checked:
    """A stage that appends or merges, and a check inside it that can refuse; by a code location of its own."""

    def __init__(self, name: str, severity: dg.AssetCheckSeverity, tables: Location, patch: pytest.MonkeyPatch) -> None:
        self.verdict, self.raises, self.computed = True, False, 0
        spec = dg.AssetCheckSpec("good", asset=["checked", "made"], blocking=True)

        @dg.asset(key_prefix="checked")
        def source() -> pl.DataFrame:
            return pl.DataFrame({"id": [1], "value": [int(told().read_text())]})

        @dg.asset(key_prefix="checked", metadata=MODES[name], check_specs=[spec])
        def made(source: pl.DataFrame) -> Any:
            self.computed += 1
            yield dg.Output(source)
            yield dg.AssetCheckResult(passed=self.verdict, severity=severity)
            if self.raises:
                raise ledger.Broken

        chosen = dg.define_asset_job("checked", selection=dg.AssetSelection.all())
        resources = {"io_manager": io_manager()}
        defs = dg.Definitions([source, made], jobs=[chosen], resources=resources, executor=dg.in_process_executor)
        self.job, self.table = defs.resolve_job_def("checked"), tables.child("checked", "made")
        self.module = f"checked_by_{Path(tables.uri).parent.name}"
        patch.setitem(sys.modules, self.module, code_location(self.module, defs))

    def run(self, instance: dg.DagsterInstance, value: int) -> str:
        told().write_text(str(value))
        return self.job.execute_in_process(instance=instance, raise_on_error=False).run_id


@pytest.mark.parametrize("name", MODES)
def test_what_a_check_refused_is_not_added_again_but_taken_back_first(
    name: str, instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands are those that the refusal names."""
    checked = Checked(name, dg.AssetCheckSeverity.ERROR, tables, monkeypatch)
    checked.run(instance, 1)
    checked.verdict = False
    run = checked.run(instance, 2)
    bad, computed = evidence.rows(checked.table), checked.computed
    run = str(resume(instance, run, checked.job).run_id)
    by_itself = continuing(instance, instance.get_run_by_id(run), checked.job, OnFailure("resume"))
    run = execute_run(by_itself.job, by_itself.run, instance).run_id
    assert checked.computed == computed
    assert evidence.rows(checked.table).equals(bad)
    refusal = said(instance, run)
    assert f"CheckFailed: checked/made was not {name} again: version 2 of {checked.table.uri} holds" in refusal
    checked.verdict = True
    undo, again = re.findall(r"`pipeline-assets ([^`]*)`", refusal[refusal.index("CheckFailed") :])[:2]
    undone = CliRunner().invoke(cli, [*shlex.split(undo), "--yes", "-m", checked.module])
    assert undone.exit_code == 0, undone.output
    assert values(checked.table, "value") == [1]
    assert resume(instance, again.removeprefix("resume "), checked.job).success
    assert values(checked.table, "value") == AFTER_TWO[name]
    evidence.all_told(instance, checked.table)


def test_what_a_check_refused_and_a_newer_run_has_merged_upon_is_mended_by_a_new_run(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether the newer run replaced the bad rows."""
    checked = Checked("merged", dg.AssetCheckSeverity.ERROR, tables, monkeypatch)
    checked.verdict = False
    run = checked.run(instance, 1)
    checked.verdict = True
    newer = checked.run(instance, 2)
    again = resume(instance, run, checked.job)
    assert not again.success
    refusal = said(instance, again.run_id)
    assert "CheckFailed" in refusal
    assert "`dagster asset materialize --select checked/made" in refusal
    assert values(checked.table, "value") == [2]
    for one in (newer, run):
        undone = CliRunner().invoke(
            cli, ["rollback", "--undo", one, "--stage", "checked/made", "--yes", "-m", checked.module]
        )
        assert undone.exit_code == 0, undone.output
    assert values(checked.table, "value") == []


def test_a_warning_of_a_blocking_check_refuses_nothing(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step failed for another reason: what it has committed counts."""
    checked = Checked("appended", dg.AssetCheckSeverity.WARN, tables, monkeypatch)
    checked.verdict, checked.raises = False, True
    run = checked.run(instance, 1)
    checked.raises = False
    assert resume(instance, run, checked.job).success
    assert values(checked.table, "value") == [1]


def test_what_was_added_before_log_clean_up_is_not_added_again_though_only_an_entry_says_so(each: Ledger) -> None:
    """SIGKILL right after the commit, so that there is no event of it either."""
    each.run(1)
    run = each.killed(2)
    each.clean_up()
    assert each.resume(run).success
    assert each.values == AFTER_TWO[each.name]
    assert each.event["checkpoint/adopted"]
    assert (each.event["delta/version"], each.event["checkpoint/chain"]) == (2, run)
    assert each.event["dagster/row_count"] == len(each.values)
    assert not {"checkpoint/attempt", "checkpoint/inputs", "checkpoint/rows_in"} & each.event.keys()
    each.run(3)
    assert each.values == AFTER_ALL[each.name]


def test_but_what_it_replaced_with_is_neither_replaced_nor_undone_without_a_word(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what it was made nobody knows, so nobody can tell whether it is older than another's."""
    each = Ledger(instance, tables, "replaced")
    first = each.run(1)
    run = each.killed(2)
    each.clean_up()
    assert not each.resume(run).success
    assert each.values == [2]
    unread(instance, first, run, each, monkeypatch)


def test_what_was_added_and_nobody_knows_is_not_left_out_of_a_rollback(
    each: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = each.run(1)
    run = each.killed(2)
    each.clean_up()
    unread(each.instance, first, run, each, monkeypatch)


def unread(instance: dg.DagsterInstance, first: str, run: str, each: Ledger, patch: pytest.MonkeyPatch) -> None:
    """Neither form of a rollback goes on without the commit that the table's log has lost."""
    before = each.values, values(each.source, "value")
    module = f"ledger_of_{Path(each.table.uri).parents[2].name}"
    patch.setitem(sys.modules, module, code_location(module, ledger.definitions()))
    for choice in (["--undo", run], ["--to", first]):
        refused = CliRunner().invoke(cli, ["rollback", *choice, "--yes", "-m", module])
        assert refused.exit_code == 3, refused.output
        assert each.table.uri in refused.output
        assert "does not say any more" in refused.output
        assert "at version" in refused.output
    assert (each.values, values(each.source, "value")) == before


def test_another_run_appends_beside_what_only_an_entry_knows_of(instance: dg.DagsterInstance, tables: Location) -> None:
    each = Ledger(instance, tables, "appended")
    run = each.killed(1)
    each.clean_up()
    each.run(2)
    assert each.resume(run).success
    assert each.values == [1, 2]


@pytest.mark.parametrize("log_checkpoint", [False, True])
def test_what_was_added_to_a_table_that_another_took_the_place_of_is_added_anew(
    each: Ledger, *, log_checkpoint: bool
) -> None:
    """The folder's log goes on, with entries of ours in it; the table has another id."""
    each.run(1)
    run = each.killed(2)
    there = DeltaTable(each.table.uri)
    DeltaTable.create(each.table.uri, there.schema(), mode="overwrite")
    if log_checkpoint:
        DeltaTable(each.table.uri).create_checkpoint()
        log_of.cache_clear()
    assert each.values == []
    assert each.resume(run).success
    assert each.values == [2]


def test_nor_when_somebody_has_adopted_it_in_between(instance: dg.DagsterInstance, tables: Location) -> None:
    each = Ledger(instance, tables, "appended")
    run = each.killed(1)
    each.clean_up()
    assert each.adopt() == ["*"]
    each.run(2)
    assert each.resume(run).success
    assert each.values == [1, 2]


def test_of_a_version_that_log_clean_up_took_the_rows_are_counted_that_are_there_now(each: Ledger) -> None:
    """Its table is healthy: a run that is resumed after a newer one, and after clean-up, ends green."""
    each.run(1)
    older = each.killed(2)
    each.run(3)
    each.clean_up()
    assert each.resume(older).success
    assert each.values == AFTER_ALL[each.name]
    assert each.event["dagster/row_count"] == len(each.values)
    assert each.event["checkpoint/chain"] == older


def test_what_another_run_has_made_since_is_not_read_for_its_own_that_log_clean_up_took(each: Ledger) -> None:
    each.run(1)
    older = each.run(2, broken=True)
    each.run(3)
    clean_up_the_log(each.source)
    log_of.cache_clear()
    refused = each.resume(older)
    assert not refused.success
    assert each.values == ([1, 3] if each.name == "appended" else [3])
    why = said(each.instance, refused.run_id)
    assert f"Version 1 of the Delta table {each.source.uri} cannot be read any more" in why
    assert "Start a new run" in why


def test_an_older_merge_keeps_newer_data_also_when_the_table_s_log_has_lost_it(merged: Ledger) -> None:
    merged.run(1)
    older = merged.run(2, broken=True)
    newer = merged.run(3)
    merged.clean_up()
    assert merged.resume(older).success
    assert merged.values == [3]
    assert merged.event["checkpoint/kept"]
    assert (merged.event["checkpoint/chain"], merged.event["dagster/row_count"]) == (newer, 1)


def forgetting(merged: Ledger) -> int:
    """A merge of which nobody knows any more what it was made from, below one that read something else; its version."""
    newer = merged.run(3)
    version = DeltaTable(merged.table.uri).version()

    @dg.asset(key=["ledger", "merged"], metadata=ledger.BY_KEY)
    def by_hand() -> pl.DataFrame:
        return pl.DataFrame({"id": [2], "value": [9]})

    assert dg.materialize([by_hand], instance=merged.instance, resources={"io_manager": io_manager()}).success
    merged.clean_up()
    merged.instance.delete_run(newer)
    return version


def test_where_nobody_knows_what_was_merged_an_older_merge_is_refused_with_the_command(merged: Ledger) -> None:
    merged.run(1)
    older = merged.run(2, broken=True)
    version = forgetting(merged)
    refused = merged.resume(older)
    assert not refused.success
    assert merged.values == [3, 9]
    why = said(merged.instance, refused.run_id)
    assert f"version {version} was merged as ledger/merged, but neither" in why
    assert "`pipeline-assets adopt " in why
    assert merged.adopt() == ["*"]
    assert merged.adopt() == []
    assert merged.resume(str(refused.run_id)).success  # what is there is taken as it is, by a person's word
    assert merged.values == [2, 9]


def test_but_not_a_new_one_than_whose_inputs_nothing_is_newer(merged: Ledger) -> None:
    forgetting(merged)
    merged.run(4)
    assert merged.values == [4, 9]


def test_nor_an_older_one_that_began_after_what_nobody_knows(merged: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was merged before a chain began was made from newer inputs than it reads."""
    monkeypatch.setattr("pipeline_assets.checkpoint_log._SLACK_SECONDS", 0.0)
    forgetting(merged)
    run = merged.run(4, broken=True)
    assert merged.resume(run).success
    assert merged.values == [4, 9]
