"""Identifiers: unique without coordination, ordered by time, the same for the same parts."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.clock import from_micros, to_micros
from pattern_db.ids import Positions, derived_id, last_position_within, new_id

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TIMES = st.datetimes(timezones=st.just(UTC))


def test_ids_are_a_prefix_and_32_hex_digits_that_sort_by_time() -> None:
    ids = [new_id("mem", NOW + timedelta(milliseconds=n)) for n in range(2000)]
    assert all(re.fullmatch(r"mem_[0-9a-f]{32}", one) for one in ids)
    assert ids == sorted(ids)


@pytest.mark.slow
def test_ids_made_by_threads_at_once_differ() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id("x", NOW), range(20_000)))
    assert len(set(ids)) == len(ids)


def test_a_forked_child_makes_other_ids() -> None:
    new_id("x", NOW)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(new_id("x", NOW) for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = set(pipe.read().splitlines())
    assert len(theirs) == 50
    assert not theirs & {new_id("x", NOW) for _ in range(600)}


def test_derived_ids_depend_on_every_part_and_its_borders() -> None:
    assert derived_id("x", "a", "b") == derived_id("x", "a", "b")
    different = {derived_id("x", *p) for p in (("a", "b"), ("ab",), ("ab", ""), ("", "ab"))}
    assert len(different) == 4


@given(TIMES)
def test_times_survive_as_microseconds(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


@given(st.lists(TIMES, min_size=2, max_size=30))
def test_positions_ascend_with_time_and_then_with_asking(moments: list[datetime]) -> None:
    positions = Positions()
    in_order = sorted(
        moment.replace(microsecond=0, year=min(moment.year, 6400)) for moment in moments
    )
    given_out = [positions.at(moment) for moment in in_order]
    assert given_out == sorted(set(given_out))
    assert all(-(2**63) <= position < 2**63 for position in given_out)


def test_a_full_millisecond_spills_into_the_next() -> None:
    positions = Positions()
    given_out = [positions.at(NOW) for _ in range(70_000)]
    assert given_out == sorted(set(given_out))


def test_positions_go_on_after_taken_ones() -> None:
    positions = Positions()
    taken = Positions().at(NOW) + 41
    positions.skip_past(taken)
    assert positions.at(NOW) == taken + 1
    assert last_position_within(taken) >= taken
