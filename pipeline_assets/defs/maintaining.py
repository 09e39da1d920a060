"""What keeps the tables well: rolling back from the UI, and maintenance once a week."""

import dagster as dg

from pipeline_assets.recovery import maintenance_job as maintaining
from pipeline_assets.recovery import rollback_job as rolling_back
from pipeline_assets.settings import rollback_window

rollback_job = rolling_back.rollback_job()
maintenance_job = maintaining.maintenance_job(rollback_window)

maintenance_schedule = dg.ScheduleDefinition(
    name="maintenance_schedule",
    job=maintenance_job,
    cron_schedule="0 4 * * 0",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every Sunday morning, when it is switched on.",
)
