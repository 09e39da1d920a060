"""docs/recovery.md says who can continue which run, and names a test for each cell; that is there."""

import re
from pathlib import Path

from pipeline_assets_tests.recovery import children

PAGE = children.PROJECT / "docs" / "recovery.md"


def table(page: str, first: str) -> list[list[str]]:
    """The rows of a table of the page, the heading too, by its first heading."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        if not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_page_says_of_each_cell_which_test_shows_it_and_that_is_there() -> None:
    page = PAGE.read_text()
    heading, *rows = table(page, "A run of")
    shown = {(row[0], row[1]): row[2] for row in table(page, "Of")[1:]}
    assert shown.keys() == {(row[0], column) for row in rows for column in heading[1:]}
    for tests in shown.values():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named
        for path, name in named:
            assert f"def {name}(" in Path(children.PROJECT, "pipeline_assets_tests", path).read_text(), (
                f"{path}::{name}"
            )
