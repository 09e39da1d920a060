"""`make run`: a week of the flights pipeline, and what there is to see and to try afterwards."""

import os
import sys
import time
from datetime import date, timedelta

from dagster import AssetKey, DagsterInstance

from pipeline_assets import checkpoint_log, checkpoints
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.table import open_table
from pipeline_assets.settings import HOME, io_manager, project_root, quiet, tables_root

FIRST, DAYS = date(2013, 1, 1), 7
STAGES = ("departures", "weather_hours", "legs", "route_delays", "carrier_scorecard")


def main() -> int:
    """Materialize the week unless it is there; 0 where all of it is there then."""
    os.environ.setdefault(HOME, str(project_root()))
    week = [(FIRST + timedelta(days=offset)).isoformat() for offset in range(DAYS)]
    started = time.monotonic()
    with DagsterInstance.get() as instance:
        there = all(_latest(instance, stage, week) for stage in STAGES)
        if not there and not _materialize(instance, week):
            print("The run failed; `pipeline-assets resume --last` continues it.", file=sys.stderr)
            return 1
        _show(instance, week)
    done = "was there already" if there else f"took {time.monotonic() - started:.1f} s"
    print(f"\nThe week {week[0]} to {week[-1]} {done}. Tables: {tables_root()}\n")
    print(_NEXT.format(day=week[-1], next=(FIRST + timedelta(days=DAYS)).isoformat()))
    return 0


def _materialize(instance: DagsterInstance, week: list[str]) -> bool:
    from pipeline_assets.definitions import defs

    tags = {
        "dagster/asset_partition_range_start": week[0],
        "dagster/asset_partition_range_end": week[-1],
    }
    job = defs.resolve_job_def("flights_job")
    return job.execute_in_process(instance=instance, tags=tags, run_config=quiet({}), raise_on_error=False).success


def _latest(instance: DagsterInstance, stage: str, week: list[str]) -> list[checkpoints.Checkpoint]:
    """The newest checkpoint of each day; none where a day is missing, or its table is not there (any more)."""
    keys = [WHOLE] if stage == "carrier_scorecard" else week
    table = open_table(io_manager().settings().root.child("flights", stage))
    newest: dict[str, checkpoints.Checkpoint] = {}
    if table is None:
        return []
    for one in checkpoint_log.remembered(instance, AssetKey(["flights", stage]), keys):
        if one.table_id == table.id:
            newest.setdefault(one.partition, one)
    return list(newest.values()) if set(keys) <= set(newest) else []


def _show(instance: DagsterInstance, week: list[str]) -> None:
    print(f"\n{'stage':<28}{'rows':>8}{'Delta version':>15}  made")
    for stage in STAGES:
        found = _latest(instance, stage, week)
        made = max(one.part.attempt for one in found)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made / 1000))
        print(
            f"flights/{stage:<20}{sum(one.part.rows for one in found):>8}{max(one.version for one in found):>15}  {when}"
        )


_NEXT = """Next:
  make ui                     the Dagster UI on http://127.0.0.1:3000
  export DAGSTER_HOME=$PWD    then break it on purpose:
  PIPELINE_ASSETS_CRASH=before_write:flights/legs .venv/bin/dagster asset materialize \\
    -m pipeline_assets.definitions --select 'key:"flights/*"' --partition {next}
                              SIGKILL, when the third stage has its files and is about to commit
  .venv/bin/pipeline-assets resume --last
                              continue: only what is left is run"""


if __name__ == "__main__":
    sys.exit(main())
