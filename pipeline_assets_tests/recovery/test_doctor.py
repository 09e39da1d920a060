"""What `doctor` finds: each finding provoked for real. It changes nothing."""

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from deltalake import DeltaTable

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.delta.probe import clock_ahead
from pipeline_assets.delta.window import interval
from pipeline_assets.recovery.doctor.storage import storage
from pipeline_assets.settings import rollback_window
from pipeline_assets_tests.careless import careless_s3
from pipeline_assets_tests.recovery.commanding import SHOP, STORY, command, said
from pipeline_assets_tests.recovery.rolling import Shop, on_disk
from pipeline_assets_tests.seaweed import S3

OLD = 86400 * 2


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def found(*severities: str, module: str = SHOP) -> dict[str, dict[str, Any]]:
    """Findings of some severities, by what was looked at and what it is of."""
    ones = said("doctor", module=module)["findings"]
    return {f"{one['check']} {one['culprit']}": one for one in ones if one["severity"] in severities}


def beat(instance: dg.DagsterInstance) -> None:
    now = time.time()
    for name in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(now, name, "a daemon", []))


def test_where_all_is_well_it_says_so_and_changes_nothing(shop: Shop) -> None:
    shop.run(1)
    beat(shop.instance)
    before = on_disk(shop.tables)
    done = command("doctor")
    assert (done.exit_code, done.stdout.splitlines()[-1].split(",")[:2]) == (0, ["0 error", " 0 warning"]), done.stdout
    assert on_disk(shop.tables) == before
    checks = {one.partition(" ")[0] for one in found("ok")}
    assert checks == {"home", "instance", "daemon", "runs", "code", "storage", "clock", "rollback", "table"}


def test_a_daemon_that_gives_no_sign_is_a_warning(shop: Shop) -> None:
    one = found("warning")["daemon dagster-daemon"]
    assert "no sign of" in one["said"]
    assert one["mend"].startswith("dagster-daemon run")


def test_a_table_says_what_is_wrong_with_its_files_its_log_and_its_retention(shop: Shop) -> None:
    for value in (1, 2, 3):
        shop.run(value)
    a, b, c = shop.places()
    DeltaTable(a.uri).vacuum(0, dry_run=False, enforce_retention_duration=False)
    Path(b.uri, "left.parquet").write_bytes(b"12345")
    os.utime(Path(b.uri, "left.parquet"), (OLD, OLD))
    Path(b.uri, "young.parquet").write_bytes(b"at work")
    DeltaTable(b.uri).alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 12 hours"})
    Path(c.uri, "_delta_log", f"{1:020}.json").write_text("")
    log_of.cache_clear()  # as another process finds it
    done = command("doctor")
    assert done.exit_code == 1
    ones = found("warning", "error")
    assert ones["restorable shop/a"]["said"].startswith(
        "2 of the versions 0 to 1, within the rollback window of 7 days"
    )
    assert ones["orphans shop/b"]["said"] == "1 files of 5 bytes are in no version, as left.parquet"
    assert "is interval 12 hours; the rollback window is 7 days" in ones["retention shop/b"]["said"]
    assert ones["table shop/c"]["severity"] == "error"
    assert "log entry 1 is empty" in ones["table shop/c"]["said"]
    exec(ones["retention shop/b"]["mend"], {"DeltaTable": DeltaTable})  # noqa: S102  it does what it says
    assert "retention shop/b" not in found("warning")


def test_a_log_without_checkpoints_and_many_files_are_warnings(shop: Shop) -> None:
    shop.run(1)
    a, b, _ = shop.places()
    for number in range(1, 102):
        Path(a.uri, "_delta_log", f"{number:020}.json").write_text('{"commitInfo":{"operation":"nothing"}}\n')
    data = next(Path(b.uri).glob("*.parquet"))
    entry = Path(b.uri, "_delta_log", f"{1:020}.json")
    add = {"path": "", "partitionValues": {}, "size": data.stat().st_size, "modificationTime": 0, "dataChange": False}
    adds = [{"add": {**add, "path": f"{number}.parquet"}} for number in range(64)]
    entry.write_text("\n".join(json.dumps(one, separators=(",", ":")) for one in adds) + "\n")
    ones = found("warning")
    assert ones["log shop/a"]["said"].startswith("102 log entries since its newest log checkpoint")
    assert ones["files shop/b"]["said"] == "it has 65 files"


def test_a_data_file_that_is_gone_is_an_error(shop: Shop) -> None:
    shop.run(1)
    Path(DeltaTable(shop.places()[2].uri).file_uris()[0]).unlink()
    assert "1 of its data files are gone" in found("error")["missing shop/c"]["said"]


def test_a_property_by_which_a_table_forgets_is_an_error(shop: Shop) -> None:
    shop.run(1)
    DeltaTable(shop.places()[0].uri).alter.set_table_properties(
        {"delta.setTransactionRetentionDuration": "interval 1 days"}, raise_if_not_exists=False
    )
    assert "by which it forgets" in found("error")["table shop/a"]["said"]


def test_a_store_without_conditional_put_is_an_error() -> None:
    with careless_s3() as options:
        root = Location.of("s3://tests/root", {**options, "max_retries": "0", "retry_timeout": "1s"})
        ones = list(storage(root, ""))
    assert [(one.severity, one.check) for one in ones] == [("error", "storage")]
    assert "no conditional put" in ones[0].said
    unreachable = list(storage(root, ""))
    assert [(one.severity, one.check) for one in unreachable] == [("error", "storage")]


def test_the_clock_of_a_store_is_held_against_this_hosts(s3: S3, tmp_path: Path) -> None:
    root = Location.of(s3.uri, s3.storage_options)
    ahead = clock_ahead(root)
    assert ahead is not None
    assert abs(ahead) < 5
    assert [one.severity for one in storage(root, "")] == ["ok"] * 3
    with careless_s3() as options:  # it is 2013 there
        behind = clock_ahead(Location.of("s3://tests/root", options))
    assert behind is not None
    assert behind < -86400 * 365
    assert clock_ahead(Location.of(str(tmp_path / "nothing"))) is None


def test_without_a_home_it_says_what_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(tmp_path)
    done = command("doctor", "--json", module=STORY)
    assert done.exit_code == 1
    ones = found("warning", "error", module=STORY)
    assert ones[f"home {tmp_path}"]["mend"] == f"export DAGSTER_HOME={tmp_path}"
    assert "there is no dagster.yaml" in ones[f"instance {tmp_path}"]["said"]


def test_a_code_location_that_does_not_import_is_an_error_and_the_instance_is_looked_at_all_the_same(
    home: Path,
) -> None:
    ones = found("ok", "error", module="no.such.module")
    assert ones["code location no.such.module"]["severity"] == "error"
    assert f"instance {home}" in ones


def test_a_database_of_another_dagster_is_to_be_migrated(shop: Shop, home: Path) -> None:
    with closing(sqlite3.connect(home / "history" / "runs.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '7f2b1a4ca7a5'")
    one = found("error")[f"instance {home}"]
    assert (one["mend"], "the database of runs has schema 7f2b1a4ca7a5" in one["said"]) == (
        "dagster instance migrate",
        True,
    )


def test_a_database_that_cannot_be_read_is_an_error(shop: Shop, home: Path) -> None:
    (home / "history" / "runs.db").write_bytes(b"no database" * 1000)
    one = found("error")[f"instance {home}"]
    assert "file is not a database" in one["said"]


def test_the_rollback_window_is_in_days(home: Path, tables: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rollback_window().total_seconds() == 7 * 86400
    monkeypatch.setenv("PIPELINE_ASSETS_ROLLBACK_WINDOW", "0.5")
    assert rollback_window().total_seconds() == 43200
    monkeypatch.setenv("PIPELINE_ASSETS_ROLLBACK_WINDOW", "a week")
    assert "'a week' is no number of days" in found("error")["code location PIPELINE_ASSETS_ROLLBACK_WINDOW"]["said"]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("interval 7 days", 7),
        ("interval 1 week", 7),
        ("INTERVAL 48 HOURS", 2),
        ("interval 1 fortnight", None),
        ("", None),
    ],
)
def test_intervals_of_properties_are_read(text: str, days: int | None) -> None:
    read = interval(text)
    assert (read.total_seconds() / 86400 if read is not None else None) == days
