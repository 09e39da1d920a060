"""A rollback's commits in one table, with real writers beside it."""

import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake import Field
from deltalake.schema import PrimitiveType

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.delta import restore as rollbacks
from pipeline_assets.delta.commit import Deadline
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.partitions import OneOf, Partition
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.restorable import NotRestorable
from pipeline_assets.delta.restore import Rollback, Target
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.errors import ForeignData, Held, PipelineAssetsError
from pipeline_assets_tests.recovery.evidence import events

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def run(
    instance: dg.DagsterInstance, root: Path, value: int, key: str | None = None, seconds: float = 30
) -> dg.ExecuteInProcessResult:
    @dg.asset(
        key_prefix="p",
        partitions_def=COLORS if key else None,
        metadata={"partition_expr": "color"} if key else {},
    )
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"color": [key or "none"], "value": [value]})

    io = DeltaCheckpointIOManager(root_uri=str(root), commit_timeout=seconds)
    return dg.materialize(
        [numbers], resources={"io_manager": io}, instance=instance, partition_key=key, raise_on_error=False
    )


def table_at(root: Path) -> Table:
    table = open_table(Location.of(str(root / "p" / "numbers")))
    assert table is not None
    return table


def values(root: Path) -> list[int]:
    return sorted(pl.read_delta(str(root / "p" / "numbers"))["value"].to_list())


def undoing(table: Table, key: str = WHOLE, back_to: int | None = None, number: int = 7) -> Rollback:
    """Undo what is live in a partition."""
    live = table.live("p/numbers", key)
    assert live is not None
    assert live.part is not None
    name = live.part.name("p/numbers", key)
    part = None
    if back_to is not None:
        record = table.record_at(back_to)
        assert record is not None
        part = record.parts[key]
    one = Partition(key, {} if key == WHOLE else {"color": OneOf((key,))})
    fences = {name.chain: int(time.time() * 1000) + 1000}
    return Rollback(number, "p/numbers", [Target(one, name, (name,), back_to, part)], fences)


def soon() -> Deadline:
    return Deadline(20)


def error_of(result: dg.ExecuteInProcessResult) -> str:
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return failures[0].error.to_string()


def test_a_table_goes_back_to_the_version_before(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    assert rollbacks.hold(table, rollback, soon())
    assert values(root) == [2]
    rollbacks.restore(table, rollback, soon())
    assert values(root) == [1]


def test_a_table_goes_back_to_nothing(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    rollback = undoing(table)
    rollbacks.hold(table, rollback, soon())
    rollbacks.restore(table, rollback, soon())
    assert values(root) == []
    assert table_at(root).live("p/numbers", WHOLE) is None


def test_a_partition_goes_back_alone(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1, "red")
    run(instance, root, 2, "red")
    run(instance, root, 3, "blue")
    table = table_at(root)
    rollback = undoing(table, "red", back_to=0)
    rollbacks.hold(table, rollback, soon())
    run(instance, root, 4, "blue")
    rollbacks.restore(table, rollback, soon())
    assert values(root) == [1, 4]


def test_a_writer_waits_for_a_rollback_and_says_so(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    rollbacks.hold(table, undoing(table), soon())
    result = run(instance, root, 2, seconds=0.5)
    assert not result.success
    assert Held.__name__ in error_of(result)
    assert "rollback 7 is at work" in error_of(result)
    assert values(root) == [1]


def test_a_lifted_hold_lets_writers_go_on(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    rollback = undoing(table)
    rollbacks.hold(table, rollback, soon())
    rollbacks.lift(table, rollback, soon())
    assert run(instance, root, 2).success
    assert values(root) == [2]
    table.refresh()
    assert not rollbacks.hold(table, rollback, soon())


def test_each_commit_of_a_rollback_is_made_once(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    for _ in range(2):
        assert rollbacks.hold(table, rollback, soon())
    for _ in range(2):
        rollbacks.restore(table, rollback, soon())
    assert table_at(root).version == 3


def test_what_is_not_as_planned_is_not_held(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    rollback = undoing(table_at(root))
    run(instance, root, 2)
    table = table_at(root)
    assert not rollbacks.hold(table, rollback, soon())
    assert table_at(root).version == 1


def test_a_hold_of_another_rollback_is_not_overwritten(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    rollbacks.hold(table, undoing(table, number=7), soon())
    assert not rollbacks.hold(table, undoing(table, number=8), soon())


def test_a_foreign_commit_under_a_hold_stops_the_restore(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    rollbacks.hold(table, rollback, soon())
    pl.DataFrame({"color": ["none"], "value": [9]}).write_delta(str(root / "p" / "numbers"), mode="append")
    with pytest.raises(ForeignData, match="while rollback 7 held it"):
        rollbacks.restore(table, rollback, soon())
    assert values(root) == [2, 9]


def test_a_vacuumed_target_is_refused_by_the_file(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    rollbacks.hold(table, rollback, soon())
    table.delta.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(NotRestorable, match="vacuumed"):
        rollbacks.restore(table, rollback, soon())


def test_an_undone_chain_cannot_commit_what_it_had_begun(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)

    @dg.asset(key_prefix="p")
    def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        table = table_at(root)
        rollback = undoing(table)
        rollbacks.hold(table, Rollback(7, "p/numbers", rollback.targets, {chain_id(context.run.run_id): 2**60}), soon())
        rollbacks.restore(table, rollback, soon())
        return pl.DataFrame({"color": ["none"], "value": [2]})

    io = DeltaCheckpointIOManager(root_uri=str(root))
    result = dg.materialize([numbers], resources={"io_manager": io}, instance=instance, raise_on_error=False)
    assert "given up by a later attempt or a rollback" in error_of(result)
    assert values(root) == []


def test_a_new_run_after_a_rollback_writes(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    rollback = undoing(table)
    rollbacks.hold(table, rollback, soon())
    rollbacks.restore(table, rollback, soon())
    assert run(instance, root, 3).success
    assert values(root) == [3]


def never(table: Table, chain: int) -> Rollback:
    """Hold what a chain has written nothing of."""
    target = Target(Partition(WHOLE, {}), None)
    return Rollback(7, "p/numbers", [target], {chain: 1}, seen=table.version)


def test_what_a_chain_has_committed_since_the_plan_is_seen_by_the_hold(
    instance: dg.DagsterInstance, root: Path
) -> None:
    """Also where another has replaced it already."""
    run(instance, root, 1)
    table = table_at(root)
    late, other = run(instance, root, 2), run(instance, root, 3)
    table.refresh()
    assert not rollbacks.hold(table, replace(never(table, chain_id(late.run_id)), seen=0), soon())
    assert not rollbacks.hold(table, replace(never(table, chain_id(other.run_id)), seen=1), soon())
    assert rollbacks.hold(table, never(table, chain_id(other.run_id)), soon())


def test_a_table_whose_columns_changed_since_the_plan_is_not_held(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    table = table_at(root)
    planned = replace(undoing(table), schema=table.schema.to_json(), table_id=table.id)
    table.delta.alter.add_columns([Field("more", PrimitiveType("long"))])
    assert not rollbacks.hold(table_at(root), planned, soon())
    assert not rollbacks.hold(table_at(root), replace(planned, schema=None, table_id="another"), soon())
    assert rollbacks.hold(table_at(root), replace(planned, schema=None), soon())


def test_a_foreign_commit_under_a_hold_goes_by_a_persons_word(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    rollbacks.hold(table, rollback, soon())
    pl.DataFrame({"color": ["none"], "value": [9]}).write_delta(str(root / "p" / "numbers"), mode="append")
    rollbacks.restore(table, rollback, soon(), overwrite=True)
    assert values(root) == [1]


def test_a_restore_whose_event_was_lost_is_told_as_one(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, 1)
    run(instance, root, 2)
    table = table_at(root)
    rollback = undoing(table, back_to=0)
    rollbacks.hold(table, rollback, soon())
    rollbacks.restore(table, rollback, soon())
    run(instance, root, 3)
    told = [event for event in events(instance, "p/numbers") if event["delta/version"] == 3]
    assert [(one.get("checkpoint/restored"), one.get("checkpoint/adopted")) for one in told] == [(True, None)]


def test_every_refusal_is_an_error_of_ours() -> None:
    assert issubclass(NotRestorable, PipelineAssetsError)
