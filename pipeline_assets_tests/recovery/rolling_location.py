"""The code location of the shop, with its tables where the environment says."""

import os

import dagster as dg

from pipeline_assets.delta.location import Location
from pipeline_assets_tests.recovery.rolling import Shop


def definitions() -> dg.Definitions:
    """Its definitions now."""
    return Shop(dg.DagsterInstance.ephemeral(), Location.of(os.environ.get("PIPELINE_ASSETS_ROOT", "tables"))).defs


defs = definitions()
