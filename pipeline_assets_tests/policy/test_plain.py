"""What values say of themselves: every change inside them, and never where they lie in memory."""

import datetime as dt
import enum
import functools
import re
import threading
import time
import uuid
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, PrivateAttr

from pipeline_assets.policy.plain import Untold, exactly, plain
from pipeline_assets_tests.policy.test_code_versions_in_processes import said


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Private:
    def __init__(self, held: Any) -> None:
        self._held = held


class Slotted:
    __slots__ = ("_held",)

    def __init__(self, held: Any) -> None:
        self._held = held


class Text(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


class Locked:
    def __init__(self, held: Any) -> None:
        self._lock = threading.Lock()
        self.held = held


def frame(middle: int) -> pl.DataFrame:
    return pl.DataFrame({"n": [0] * 500 + [middle] + [0] * 500})


def array(middle: int) -> "np.ndarray[Any, Any]":
    return np.array([0] * 2500 + [middle] + [0] * 2500)


def nested(value: int, levels: int) -> list[Any]:
    made: list[Any] = [value]
    for _ in range(levels):
        made = [made]
    return made


PAIRS: dict[str, tuple[Any, Any]] = {
    "number": (1, 2),
    "kind of number": (1, True),
    "long number": (10**5000, 10**5000 + 1),
    "text": ("a", "b"),
    "text or number": ("1", 1),
    "long text": ("a" * 9999 + "b", "a" * 9999 + "c"),
    "text of a class of its own": (Text("a"), Text("b")),
    "bytes": (b"a", b"b"),
    "long bytes": (b"a" * 9999 + b"b", b"a" * 9999 + b"c"),
    "bytearray": (bytearray(b"a"), bytearray(b"b")),
    "memoryview": (memoryview(b"a"), memoryview(b"b")),
    "date": (dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
    "time zone": (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2020, 1, 1)),
    "Decimal": (Decimal(1), Decimal("1.0")),
    "Path": (Path("a"), Path("b")),
    "Enum": (Colour.RED, Colour.BLUE),
    "IntEnum": (Level.LOW, Level.HIGH),
    "UUID": (uuid.UUID(int=1), uuid.UUID(int=2)),
    "pattern": (re.compile("a"), re.compile("b")),
    "list": ([1, 2], [2, 1]),
    "list in a list": ([1, [2]], [[1], 2]),
    "tuple": ((1,), [1]),
    "set": ({1, 2}, {1, 3}),
    "dict": ({"a": 1}, {"a": 2}),
    "keys": ({"a": 1}.keys(), {"b": 1}.keys()),
    "defaultdict": (defaultdict(list, a=[1]), defaultdict(list, a=[2])),
    "ordered": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    "Counter": (Counter("aab"), Counter("abb")),
    "DataFrame": (frame(1), frame(2)),
    "Series": (frame(1)["n"], frame(2)["n"]),
    "expression": (pl.col("a") + 1, pl.col("a") + 2),
    "array": (array(1), array(2)),
    "array of another shape": (array(1), array(1).reshape(1, -1)),
    "array's number": (np.float64(1), np.float64(2)),
    "Arrow table": (pa.table({"n": array(1)}), pa.table({"n": array(2)})),
    "private attribute": (Private(1), Private(2)),
    "slot": (Slotted(1), Slotted(2)),
    "deep list": (nested(1, 5000), nested(2, 5000)),
    "deep object": (Private(Private(Private(Private(Private(1))))), Private(Private(Private(Private(Private(2)))))),
    "partial": (functools.partial(int, base=2), functools.partial(int, base=3)),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_change_inside_a_value_is_seen(kind: str) -> None:
    one, other = PAIRS[kind]
    assert plain(one) != plain(other)
    assert exactly(one) != exactly(other)


def test_what_is_equal_and_made_anew_is_no_change() -> None:
    for one, other in (
        (Private([Path("a"), frame(1)]), Private([Path("a"), frame(1)])),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (frame(1), pl.concat([frame(1)[:7], frame(1)[7:]], rechunk=False)),
        (object(), object()),
    ):
        assert exactly(one) == exactly(other)
        assert plain(one) == plain(other)


@pytest.mark.parametrize("value", [threading.Lock(), Locked(1), (n for n in "a"), lambda: 1, pl.LazyFrame({"n": [1]})])
def test_what_cannot_be_told_exactly_is_refused(value: Any) -> None:
    with pytest.raises(Untold):
        exactly([value])


def test_of_a_lock_only_the_type_counts_and_of_what_holds_it_all_else() -> None:
    assert plain(threading.Lock()) == plain(threading.Lock())
    assert plain(Locked(1)) == plain(Locked(1))
    assert plain(Locked(1)) != plain(Locked(2))


def test_of_what_refuses_to_be_pickled_public_attributes_count() -> None:
    class Client:
        def __init__(self, project: str) -> None:
            self.project, self._opened = project, time.perf_counter()

        def __reduce__(self) -> Any:
            raise TypeError

    assert plain(Client("a")) == plain(Client("a"))
    assert plain(Client("a")) != plain(Client("b"))


def test_what_holds_itself_has_an_end() -> None:
    def ring(number: int) -> Private:
        made = Private(None)
        made._held = {"me": [made], "number": number}
        return made

    assert plain(ring(1)) == plain(ring(1))
    assert plain(ring(1)) != plain(ring(2))


def test_what_is_held_many_times_over_is_told_once() -> None:
    value: list[Any] = [1]
    for _ in range(200):
        value = [value, value]
    began = time.monotonic()
    assert plain(value) == exactly(value)
    assert time.monotonic() - began < 5


def test_of_a_pydantic_model_the_fields_count_alone() -> None:
    class Model(BaseModel):
        number: int
        where: Path = Path("a")
        _made: float = PrivateAttr(default_factory=time.perf_counter)

    assert plain(Model(number=1)) == plain(Model(number=1))
    assert plain(Model(number=1)) != plain(Model(number=2))
    assert plain(Model(number=1)) != plain(Model(number=1, where=Path("b")))


IN_A_PROCESS = """
import datetime as dt
import decimal, pathlib, re, threading
from typing import Any
import dagster as dg
import numpy as np
import polars as pl
from pipeline_assets.policy.plain import plain

class Inner(dg.ConfigurableResource):
    number: int = 1

class Outer(dg.ConfigurableResource):
    inner: Inner
    where: str = dg.EnvVar("HOME")
    def setup_for_execution(self, context): ...

class Held:
    def __init__(self):
        self._me, self._lock, self._object, self._call = self, threading.Lock(), object(), lambda: 1
        self._names = {"a", "b", "c", ("d", 1), pathlib.Path("e")}
        self._made = [pl.DataFrame({"a": [1]}), pl.LazyFrame({"a": [1]}), pl.col("a"), np.arange(9), re.compile("a")]
        self._when = dt.datetime(2020, 1, 1), decimal.Decimal(1)

print(plain(Outer(inner=Inner())), plain(Held()), plain({"a": {Held}}))
"""


def test_values_and_resources_say_the_same_in_every_process(tmp_path: Path) -> None:
    assert said(tmp_path, ["-c", IN_A_PROCESS], seed="1") == said(tmp_path, ["-c", IN_A_PROCESS], seed="2")
