"""What keeps the tables well: rolling back from the UI."""

from pipeline_assets.recovery import rollback_job as rolling_back

rollback_job = rolling_back.rollback_job()
