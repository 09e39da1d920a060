"""Screenshots of what a test saw: PIPELINE_ASSETS_SCREENSHOTS=docs/images keeps them."""

import os
from pathlib import Path
from typing import Any


def keep(page: Any, name: str) -> None:
    """A screenshot for the docs, if asked for."""
    if folder := os.environ.get("PIPELINE_ASSETS_SCREENSHOTS"):
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(folder) / f"{name}.png")
