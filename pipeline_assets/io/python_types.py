"""The Python types that values of assets and ops have, and what is said of others."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import polars as pl
import pyarrow as pa
from dagster import InputContext, OutputContext
from dagster._check import CheckError

from pipeline_assets.errors import PermanentError

TYPES = (pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader)


class UnsupportedValue(PermanentError, CheckError):
    """A Python type that is no table.

    what: whose, as a message begins. mend: what to do.
    """

    def __init__(self, type_: Any, what: str, mend: str) -> None:
        known = ", ".join(str(one) for one in TYPES)
        super().__init__(
            f"{what} is of type {_shown(type_)}. This drop-in for DeltaLakeIOManager does not have a handler for type "
            f"'{type_}'. Has handlers for types '{known}'. Nothing was written or read; {mend}"
        )

    @classmethod
    def returned(cls, type_: Any, context: OutputContext) -> "UnsupportedValue":
        """Of an output."""
        what = f"Output {context.name!r} of {_stage_of(context)}"
        mend = "return one of those, or give the output another IO manager (`io_manager_key`)."
        if issubclass(type_, dict):
            mend = "return one frame with the rows of all partitions, or give the output another IO manager."
        return cls(type_, what, mend)

    @classmethod
    def asked(cls, type_: Any, context: InputContext) -> "UnsupportedValue":
        """Of an input."""
        mend = "annotate the input with one of those, or give it another IO manager (`input_manager_key`)."
        if type_ in (dict, Mapping):
            mend = "annotate the values, too: `dict[str, pl.DataFrame]` is a frame for each partition key."
        return cls(type_, f"Input {context.name!r} of {_reader_of(context)}", mend)


def load_type(context: InputContext, default: type) -> tuple[Any, bool]:
    """The type that an input asks for, else the default, and whether it wants a dict of partitions.

    Raises UnsupportedValue.

    Of a list, as a fan-in asks for, Dagster loads each item by itself.
    """
    asked = context.dagster_type.typing_type
    origin, arguments = get_origin(asked), get_args(asked)
    by_partition = origin in (dict, Mapping) and bool(arguments)
    wants = arguments[-1] if by_partition or (origin is list and arguments) else asked
    if wants is Any:
        wants = default
    if not (isinstance(wants, type) and issubclass(wants, TYPES)):
        raise UnsupportedValue.asked(wants, context)
    return wants, by_partition


def _stage_of(context: OutputContext) -> str:
    if context.has_asset_key:
        return context.asset_key.to_user_string()
    return str(context.step_key)


def _reader_of(context: InputContext) -> str:
    """The stage that reads; an input that is loaded by hand has none."""
    step_context = context._step_context  # noqa: SLF001  the public one raises where a value is loaded by hand
    if step_context is None:
        return "no stage"
    keys = (one.asset_key for one in step_context.step.step_outputs)
    return ", ".join(key.to_user_string() for key in keys if key is not None) or str(step_context.step.key)


def _shown(type_: Any) -> str:
    return getattr(type_, "__name__", str(type_)) if get_origin(type_) is None else str(type_)
