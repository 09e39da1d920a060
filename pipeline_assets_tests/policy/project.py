"""Small projects on disk, imported for real."""

import importlib
import itertools
import os
import sys
from pathlib import Path

from pipeline_assets.policy.code_versions import code_version_of


class Project:
    """A folder on `sys.path` that a test writes modules into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds = itertools.count(1_500_000_000)

    def write(self, file: str, text: str) -> Path:
        """Writes or edits a file. Its time is a new one: two edits of a test can be closer than the clock's tick."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        now = next(self._seconds)
        os.utime(path, (now, now))
        os.utime(path.parent, (now, now))
        return path

    def version(self, module: str = "stage_of_test") -> str:
        """The code version of the function `stage` of a module, which is imported anew."""
        self.forget()
        return code_version_of(importlib.import_module(module).stage)

    def forget(self) -> None:
        """What is named `…_of_test` does not stay imported."""
        for name in list(sys.modules):
            if name.partition(".")[0].endswith("_of_test"):
                del sys.modules[name]
        importlib.invalidate_caches()
