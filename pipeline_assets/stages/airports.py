"""The airports of the source, and the four that it lacks."""

import polars as pl

# In the flights, not in airports.csv: Puerto Rico and the US Virgin Islands. Without their zones
# 7,602 flights would have no arrival instant. Neither territory has daylight saving.
MISSING = {
    "BQN": ("Rafael Hernandez", "America/Puerto_Rico"),
    "PSE": ("Mercedita", "America/Puerto_Rico"),
    "SJU": ("Luis Munoz Marin Intl", "America/Puerto_Rico"),
    "STT": ("Cyril E King", "America/St_Thomas"),
}


def known_airports(airports: pl.LazyFrame) -> pl.LazyFrame:
    """faa, name, tzone (String) and listed (Boolean: false for what the source lacks); one row an airport."""
    added = pl.LazyFrame(
        [(faa, name, zone) for faa, (name, zone) in MISSING.items()],
        schema={"faa": pl.String, "name": pl.String, "tzone": pl.String},
        orient="row",
    )
    listed = airports.select("faa", "name", "tzone", pl.lit(True).alias("listed"))
    # A later release may list them: its word counts, and no airport is there twice.
    lacking = added.join(listed, on="faa", how="anti").with_columns(pl.lit(False).alias("listed"))
    return pl.concat([listed, lacking])
