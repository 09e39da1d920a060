import ast
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.stages import schemas
from pipeline_assets.stages.schemas import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_returns_its_schema(year: dict[str, pl.DataFrame], stage: str) -> None:
    assert year[stage].schema == STAGES[stage].schema


@pytest.mark.parametrize("stage", STAGES)
def test_the_key_names_each_row_and_is_never_null(year: dict[str, pl.DataFrame], stage: str) -> None:
    keys = year[stage].select(STAGES[stage].key)
    assert keys.n_unique() == keys.height
    assert sum(keys.null_count().row(0)) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_every_column_is_described(stage: str) -> None:
    assert all(STAGES[stage].descriptions.values())


def test_every_daily_stage_is_partitioned_by_flight_date() -> None:
    daily = {name for name, stage in STAGES.items() if stage.schema.get("flight_date") == pl.Date()}
    assert daily == set(STAGES) - {"carrier_scorecard"}


def test_a_value_that_does_not_fit_is_an_error_and_not_a_null() -> None:
    frame = pl.LazyFrame({name: ["x"] for name in STAGES["carrier_scorecard"].columns})
    with pytest.raises(pl.exceptions.InvalidOperationError):
        STAGES["carrier_scorecard"].conform(frame).collect()


def test_no_stage_knows_dagster() -> None:
    for module in Path(schemas.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "dagster" for name in names), module
