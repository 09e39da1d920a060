"""What a commit says of itself survives the way through the log."""

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.delta.decide import Mode, Name, Pin
from pipeline_assets.delta.record import Part, Record, chain_id

PART = Part("c", 5, {"a": Pin("t", 3)}, rows=2, rows_in=4, quarantined=1, dropped=1, run="r", notes={"n": [1]})


def through_the_log(record: Record) -> Record:
    return Record.of_json(json.loads(json.dumps(record.as_json())))


def test_a_record_comes_back_as_it_was() -> None:
    record = Record("write", "o", "t", {"k": PART, "l": Part("d", 6)}, Mode.MERGE, (Name("o", "k", 1, 2),), 7)
    assert through_the_log(record) == record


def test_what_partitions_share_is_written_once() -> None:
    record = Record("write", "o", "t", {str(day): PART for day in range(365)})
    assert len(json.dumps(record.as_json())) < 6000
    assert through_the_log(record) == record


def test_a_partition_restored_to_nothing_stays_nothing() -> None:
    record = Record("restore", "o", "t", {"k": None, "l": PART})
    assert through_the_log(record).parts["k"] is None


def test_fields_of_a_later_format_are_left_out() -> None:
    fields = {**PART.as_json(), "tomorrow": 1}
    assert Part.of_json(fields) == PART


def test_two_commits_never_have_the_same_token() -> None:
    assert Record("fence", "o", "t").token != Record("fence", "o", "t").token


@given(st.uuids())
def test_a_chain_s_number_fits_an_int64_and_is_not_negative(run: uuid.UUID) -> None:
    assert 0 <= chain_id(str(run)) < 2**63


def test_a_run_id_that_is_no_uuid_has_a_number_all_the_same() -> None:
    assert chain_id("my-run") == chain_id("my-run") != chain_id("my-other-run")
