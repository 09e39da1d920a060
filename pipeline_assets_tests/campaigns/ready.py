"""A command of Dagster's or ours in a process that has imported everything and then waits for a line on stdin.

So that a kill at a random moment falls into the run, not into three seconds of imports.

    python -m pipeline_assets_tests.campaigns.ready MODULE dagster asset materialize …
    python -m pipeline_assets_tests.campaigns.ready MODULE pipeline-assets resume …
"""

import importlib
import sys


def main() -> None:
    module, program, *arguments = sys.argv[1:]
    importlib.import_module("dagster._core.execution.api")
    importlib.import_module("alembic.context")
    importlib.import_module(module)
    if program == "dagster":
        command = importlib.import_module("dagster._cli").main
    else:
        command = importlib.import_module("pipeline_assets.cli").main
    sys.argv = [program, *arguments]
    print("ready", flush=True)
    sys.stdin.readline()
    command()


if __name__ == "__main__":
    main()
