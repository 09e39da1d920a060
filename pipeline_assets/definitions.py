"""The code location: what is in defs/, the IO manager, and the executor."""

import warnings

import dagster as dg

from pipeline_assets import defs as definitions_folder
from pipeline_assets.settings import io_manager, warn_without_home

# What is used of Dagster is pinned and tested; its word that it may change is no news to whoever runs a pipeline.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warn_without_home()

# A stage uses all cores by itself, and a process for each step costs seconds; so steps share the run's process.
defs = dg.Definitions.merge(
    dg.load_definitions_from_package_module(definitions_folder),
    dg.Definitions(resources={"io_manager": io_manager()}, executor=dg.in_process_executor),
)
