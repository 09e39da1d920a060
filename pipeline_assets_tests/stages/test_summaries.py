from datetime import date

import polars as pl
import pytest

from pipeline_assets.stages.schemas import STAGES
from pipeline_assets.stages.summaries import BAR_WIDTH, SUMMARIES, bar, markdown_table

DAY = pl.col("flight_date") == date(2013, 2, 8)  # a blizzard


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_summary_and_an_empty_one_says_so(stage: str) -> None:
    assert "no rows" in SUMMARIES[stage](pl.DataFrame(schema=STAGES[stage].schema))


@pytest.mark.parametrize("stage", STAGES)
def test_a_summary_fits_a_screen(year: dict[str, pl.DataFrame], stage: str) -> None:
    frame = year[stage]
    lines = SUMMARIES[stage](frame.filter(DAY) if "flight_date" in frame.columns else frame).splitlines()
    assert 3 < len(lines) < 40
    assert max(map(len, lines)) < 100


def test_the_blizzard_shows_in_the_departures(year: dict[str, pl.DataFrame]) -> None:
    assert "| 20:00 | 46 | 46 |" in SUMMARIES["departures"](year["departures"].filter(DAY))


def test_the_statuses_of_the_year_come_first_and_in_order(year: dict[str, pl.DataFrame]) -> None:
    text = SUMMARIES["legs"](year["legs"])
    assert text.index("| flown | 327346 |") < text.index("| cancelled | 8255 |") < text.index("| Note | Rows |")


def test_the_scorecard_shows_rank_carrier_and_share(year: dict[str, pl.DataFrame]) -> None:
    assert "| 1 | HA | 342 | -6.9 | 12.9% | ████ |" in SUMMARIES["carrier_scorecard"](year["carrier_scorecard"])


def test_a_table_shows_null_as_a_dash_and_keeps_a_pipe_inside_its_cell() -> None:
    assert markdown_table(("a", "b"), [(None, "x|y"), (1.25, 2)]).splitlines()[2:] == [
        "| - | x\\|y |",
        "| 1.2 | 2 |",
    ]


@pytest.mark.parametrize(("part", "whole", "length"), [(0, 0, 0), (1, 2, BAR_WIDTH // 2), (7, 7, BAR_WIDTH)])
def test_a_bar_is_as_long_as_its_share(part: int, whole: int, length: int) -> None:
    assert len(bar(part, whole)) == length
