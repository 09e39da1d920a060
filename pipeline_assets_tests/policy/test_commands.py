"""The commands in our texts: whoever pastes one reaches the code location that the text speaks of."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import pipeline_assets
from pipeline_assets.cli import cli
from pipeline_assets.errors import ForeignData
from pipeline_assets.policy.commands import located, to_begin, to_resume
from pipeline_assets.recovery.failure_report import report_of
from pipeline_assets.stage import stage

VERBS = "|".join(sorted(cli.commands))
COMMAND = re.compile(rf"(?:pipeline-assets (?:{VERBS})|dagster asset materialize)\b[^`;)]*")
HERE = " -m my.location"
LEFT_OUT = {"demo.py", "commands.py"}
"""The demonstration speaks of the project's own code location, which a command need not name; the other one is asked here."""


def texts(path: Path) -> Iterator[str]:
    """Every text of a module that is no docstring."""
    tree = ast.parse(path.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else put_in(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | docstrings):
            yield node.value


def put_in(part: ast.AST) -> str:
    """Something in the place of what is put into a text; the code location where it is that."""
    assert isinstance(part, ast.FormattedValue)
    said = ast.unparse(part.value)
    if isinstance(part.value, ast.Call) and said.startswith("to_resume("):
        return f"pipeline-assets resume RUN{HERE if len(part.value.args) > 1 else ''}"
    return HERE if re.search(r"\bmore\b|named_by", said) else "something"


def named() -> list[tuple[str, str]]:
    package = Path(pipeline_assets.__file__).parent
    paths = [path for path in package.rglob("*.py") if path.name not in LEFT_OUT]
    found = [(path.name, text) for path in paths for text in texts(path) if COMMAND.search(text)]
    assert len({name for name, _ in found}) > 10
    return found


@pytest.mark.parametrize(("module", "text"), named())
def test_every_text_that_names_a_command_names_the_code_location_with_it(module: str, text: str) -> None:
    """By itself, since who made it knew it, or when it is shown: then it is between backticks."""
    for command in COMMAND.findall(located(text, "my.location")):
        assert HERE in command


def test_what_a_stage_died_of_names_it_as_well(instance: dg.DagsterInstance) -> None:
    @stage
    def one() -> int:
        raise ForeignData(table="a/b", why="somebody wrote it")

    job = dg.Definitions([one]).resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(failed.run_id)
    why = report_of(instance, run, job, "my.location").lines()[1]
    assert "`pipeline-assets adopt a/b -m my.location` makes a checkpoint of what is there." in why


def test_a_command_that_names_its_code_location_is_left_as_it_is() -> None:
    text = f"`{to_resume('1', 'mine', option='--gone')}`, or `dagster run list`."
    assert text == "`pipeline-assets resume 1 --gone -m mine`, or `dagster run list`."
    assert located(text, "another") == text
    assert located("`pipeline-assets resume 1`.", None) == "`pipeline-assets resume 1`."
    assert (
        located("a\n`pipeline-assets adopt a/b --version 3`", "x") == "a\n`pipeline-assets adopt a/b --version 3 -m x`"
    )


WINDOW = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "it's"}


@pytest.mark.parametrize(
    ("job", "keys", "tags", "command"),
    [
        ("shop_job", ["shop/a"], {}, """pipeline-assets run shop_job --select 'key:"shop/a"'"""),
        ("shop_job", [], {"dagster/partition": "2013-01-05"}, "pipeline-assets run shop_job --partition 2013-01-05"),
        ("shop_job", [], WINDOW, """pipeline-assets run shop_job --from a --to 'it'"'"'s'"""),
        ("__ASSET_JOB", ["b", "a"], {}, "dagster asset materialize --select a,b"),
        ("__ephemeral_asset_job__", [], {}, ""),
    ],
)
def test_the_command_of_a_new_run_makes_the_same_stages_and_partitions(
    job: str, keys: list[str], tags: dict[str, str], command: str
) -> None:
    chosen = {dg.AssetKey(key.split("/")) for key in keys} or None
    assert to_begin(dg.DagsterRun(job, tags=tags, asset_selection=chosen)) == command
