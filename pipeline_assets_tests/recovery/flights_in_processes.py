"""The flights pipeline with a process for each step, and with its tables where the environment says when it is asked."""

import dagster as dg

from pipeline_assets.defs import flights
from pipeline_assets.settings import io_manager

STAGES = ("departures", "weather_hours", "legs", "route_delays", "carrier_scorecard")
# A worker is forked from a process that has imported all this already; else each takes 3 s to start. Without the executor's
# own retries a step that was killed fails, and there is something to resume.
PROCESSES = dg.multiprocess_executor.configured(
    {
        "max_concurrent": 2,
        "start_method": {"forkserver": {"preload_modules": ["pipeline_assets.definitions"]}},
        "retries": {"disabled": {}},
    }
)


def definitions(executor: dg.ExecutorDefinition = PROCESSES) -> dg.Definitions:
    """The code location."""
    return dg.Definitions(
        dg.load_assets_from_modules([flights]),
        jobs=[flights.flights_job],
        resources={"io_manager": io_manager()},
        executor=executor,
    )


defs = definitions()
