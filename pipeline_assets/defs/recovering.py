"""What recovers by itself; a pipeline that says nothing of `on_failure` is left alone."""

from pipeline_assets.recovery import automation

recovery_job = automation.recovery_job()
recovery_sensor = automation.recovery_sensor(recovery_job)
stuck_run_sensor = automation.stuck_run_sensor()
