"""`rollback_job`, as it is launched from the UI: its plan, what it does, and how it refuses."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import JobExecutionResult

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.rollback_job import RollbackConfig, rollback_job
from pipeline_assets.recovery.rollback_store import Store
from pipeline_assets_tests.recovery.children import KILLED, PROJECT
from pipeline_assets_tests.recovery.rolling import Shop, on_disk, shown
from pipeline_assets_tests.recovery.rolling_processes import end, rollback

UNKNOWN = "00000000-0000-4000-8000-000000000000"


LOCATION = """
import dagster as dg
from pipeline_assets.recovery.rollback_job import rollback_job
from pipeline_assets_tests.recovery.rolling_location import definitions
defs = dg.Definitions.merge(definitions(), dg.Definitions(jobs=[rollback_job()]))
"""
"""A module of this test's own, which the process of a refresh can import as well."""


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location, home: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    found = Shop(instance, tables)
    (home / f"{found.module}.py").write_text(LOCATION)
    monkeypatch.setattr(sys, "path", [*sys.path, str(home)])  # Dagster takes the first one away while it imports
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(home), str(PROJECT)]))
    return found


def launch(shop: Shop, **config: Any) -> JobExecutionResult:
    """The job, in the code location of the shop."""
    job = CodeLocation(shop.module).job("rollback_job")
    run_config = {"ops": {"rollback": {"config": config}}}
    return dg.execute_job(job, shop.instance, run_config, raise_on_error=False)


def said(done: JobExecutionResult) -> Mapping[str, Any]:
    """What a person reads at the step's output in the run's page."""
    (event,) = [one for one in done.all_events if one.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def refusal(done: JobExecutionResult) -> str:
    (event,) = [one for one in done.all_events if one.is_step_failure]
    assert not [one for one in done.all_events if one.is_step_up_for_retry]
    return str(event.step_failure_data.user_failure_data.description)


def test_it_shows_its_plan_as_a_table_and_changes_nothing_unless_it_is_told_to(shop: Shop) -> None:
    first, second = shop.run(1), shop.run(2)
    before = on_disk(shop.tables)
    told = said(launch(shop, undo=second))
    row = f"| shop/%s |  | version 1 → as at version 0, of {first}; undoes {second} |"
    lines = ["| stage | partition | what becomes of it |", "| --- | --- | --- |", *(row % stage for stage in "abc")]
    assert told["plan"].splitlines() == lines
    assert told["done"] == "nothing, it was a dry run"
    assert on_disk(shop.tables) == before


def test_it_undoes_a_run_and_makes_again_what_is_owed(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    told = said(launch(shop, undo=second, stage="shop/a", dry_run=False))
    assert shop.values() == {"a": 1, "b": 2, "c": 2}
    assert "| shop/b | * | stale | shop/b was made from what is undone of shop/a |" in told["owed"]
    told = said(launch(shop, undo=second, dry_run=False, refresh=True))
    assert (shop.values(), told["owed"]) == ({"a": 1, "b": 1, "c": 1}, "nothing")
    third = shop.run(3)
    told = said(launch(shop, undo=third, stage="shop/a", dry_run=False, refresh=True))
    assert (shop.values(), told["owed"]) == ({"a": 1, "b": 1, "c": 1}, "nothing")
    assert "(/runs/" in told["made again by"]


def test_it_goes_back_to_a_run(shop: Shop) -> None:
    first, _, _ = shop.run(1), shop.run(2), shop.run(3)
    said(launch(shop, to=first, dry_run=False))
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_it_ends_a_rollback_that_was_killed(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    assert end(rollback("--undo", second, "--yes", crash="rollback:7")) == KILLED
    assert "is restoring" in said(launch(shop, go_on=True))["done"]
    assert "is not at its end" in refusal(launch(shop, undo=second, dry_run=False))
    said(launch(shop, go_on=True, dry_run=False))
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert Store(shop.tables).read().open is None
    assert "No rollback is open" in refusal(launch(shop, go_on=True))


def test_a_refusal_is_a_failed_step_that_says_why(shop: Shop) -> None:
    shop.run(1)
    before = on_disk(shop.tables), [shown(place) for place in shop.places()]
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"undo": UNKNOWN, "dry_run": False}, f"There is no run {UNKNOWN}"),
        ({}, "Say exactly one of undo"),
        ({"undo": UNKNOWN, "to": UNKNOWN}, "Say exactly one of undo"),
        ({"go_on": True, "stage": "shop/a"}, "it goes with no stage"),
        ({"undo": UNKNOWN, "overwrite": True}, "overwrite goes with go_on"),
    ]
    for config, text in refusals:
        why = refusal(launch(shop, **config))
        assert text in why
        assert "Nothing was changed" in why
    assert (on_disk(shop.tables), [shown(place) for place in shop.places()]) == before


def test_every_field_of_the_launchpad_is_described() -> None:
    fields = rollback_job().graph.node_defs[0].config_schema.config_type.fields
    assert set(fields) == set(RollbackConfig.model_fields)
    assert all(field.description for field in fields.values())
    assert fields["dry_run"].default_value is True
