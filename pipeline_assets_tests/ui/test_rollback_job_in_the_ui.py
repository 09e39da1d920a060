"""`rollback_job` as a person sees it: its run's page with the plan."""

import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.rollback_job import rollback_job
from pipeline_assets_tests.recovery.rolling import Shop, code_location
from pipeline_assets_tests.ui.browser import keep
from pipeline_assets_tests.ui.server import served

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]


@pytest.fixture
def tables(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("PIPELINE_ASSETS_ROOT", str(root))
    return Location.of(str(root))


@pytest.fixture
def planned(instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A dry run, and the run that it would go back to; made before there is a page, whose driver has an event loop."""
    shop = Shop(instance, tables)
    defs = dg.Definitions.merge(shop.defs, dg.Definitions(jobs=[rollback_job()]))
    monkeypatch.setitem(sys.modules, shop.module, code_location(shop.module, defs))
    first, second = shop.run(1), shop.run(2)
    config = {"ops": {"rollback": {"config": {"undo": second}}}}
    job = CodeLocation(shop.module).job("rollback_job")
    return dg.execute_job(job, instance, run_config=config).run_id, first


def test_the_page_of_its_run_shows_the_plan(planned: tuple[str, str], page: Any) -> None:
    run, first = planned
    with served("pipeline_assets_tests.recovery.rolling_location") as dagster:
        page.goto(f"{dagster.url}/runs/{run}?logs=type%3ASTEP_OUTPUT")
        page.get_by_text("it was a dry run").first.wait_for()
        page.get_by_text(re.compile("Show markdown", re.IGNORECASE)).first.click()
        page.get_by_role("cell", name=re.compile(f"version 1 → as at version 0, of {first}")).first.wait_for()
        keep(page, "rollback-plan")
