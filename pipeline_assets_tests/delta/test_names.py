"""Our entries in a table's log: spelled so that every key comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.delta import names


@given(st.text(), st.text())
def test_any_output_and_partition_come_back(output: str, partition: str) -> None:
    if names.WHOLE not in (output, partition):
        assert names.parse(names.data(output, partition)) == ("data", output, partition)


@pytest.mark.parametrize("key", ["a/b", "x' OR 'a'='a", "100%", "é", "a b", "#?"])
def test_an_odd_key_does_not_look_like_two_parts(key: str) -> None:
    assert names.data("o", key).count("/") == 3


def test_a_partition_called_star_is_not_the_whole_table() -> None:
    assert names.parse(names.data("o", names.WHOLE)) == ("data", "o", "*")


def test_what_is_not_ours_is_none_of_ours() -> None:
    assert names.parse("spark/app-1") is None


def test_every_kind_has_its_own_prefix() -> None:
    spelled = [names.data("o", "k"), names.chain("o", "k"), names.member("o", "k", 1), names.hold("o", "k")]
    assert len({*spelled, names.fence(1), names.plan(1)}) == 6
