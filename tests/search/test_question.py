"""What is read in a question: whom it names, and when."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.search.dates import Moment, Span, closeness
from pattern_db.search.language import stem
from pattern_db.search.question import analyze, without_names

ASKED = datetime(2024, 3, 13, 18, tzinfo=UTC)  # a Wednesday


def days(first, last=None):
    return [Span(date.fromisoformat(first), date.fromisoformat(last or first))]


class TestNames:
    @pytest.mark.parametrize(
        ("query", "rest"),
        [
            ("What has Ada done with her dogs?", "What has done with her dogs?"),
            ("What are the names of Ada's dogs?", "What are the names of dogs?"),
            ("Where did ada meet Grace?", "Where did meet ?"),
            ("Is Adam well?", "Is Adam well?"),
            ("Ada’s kayak", "kayak"),
            ("Who is Ada?", "Who is Ada?"),
            ("Ada", "Ada"),
            ("", ""),
        ],
    )
    def test_they_leave_the_question_unless_nothing_else_is_asked(self, query, rest):
        assert without_names(query, ["Ada Lovelace", "Grace"]) == rest

    def test_a_name_that_is_a_stop_word_stays(self):
        assert without_names("When will it rain?", ["Will"]) == "When will it rain?"

    @given(st.text(), st.lists(st.text(max_size=8), max_size=3))
    def test_any_text_keeps_something_to_ask(self, query, names):
        assert bool(without_names(query, names).strip()) == bool(query.strip())


class TestDates:
    @pytest.mark.parametrize(
        ("query", "moments"),
        [
            ("in the summer of 2023", [Moment(6, 2023), Moment(7, 2023), Moment(8, 2023)]),
            ("What did she do in the fall?", [Moment(9), Moment(10), Moment(11)]),
            ("Did she fall?", []),
            (
                "the first weekend of June 2023",
                [Moment(6, 2023), *days("2023-06-03", "2023-06-04")],
            ),
            ("the last weekend in May, 2023", [Moment(5, 2023), *days("2023-05-27", "2023-05-28")]),
            ("the first weekend of June", [Moment(6)]),
        ],
    )
    def test_seasons_and_weekends_are_read(self, query, moments):
        assert list(analyze(query).moments) == moments

    @pytest.mark.parametrize(
        ("query", "span"),
        [
            ("What did I eat yesterday?", days("2024-03-12")),
            ("the day before yesterday", days("2024-03-11")),
            ("What is on today?", days("2024-03-13")),
            ("last night", days("2024-03-12")),
            ("three days ago", days("2024-03-10")),
            ("2 weeks ago", days("2024-02-25", "2024-03-02")),
            ("a month ago", days("2024-02-01", "2024-02-29")),
            ("five months ago", days("2023-10-01", "2023-10-31")),
            ("two years ago", days("2022-01-01", "2022-12-31")),
            ("last week", days("2024-03-04", "2024-03-10")),
            ("this week", days("2024-03-11", "2024-03-17")),
            ("last weekend", days("2024-03-09", "2024-03-10")),
            ("last month", days("2024-02-01", "2024-02-29")),
            ("last year", days("2023-01-01", "2023-12-31")),
            ("last monday", days("2024-03-11")),
            ("last wednesday", days("2024-03-06")),
            ("last May", days("2023-05-01", "2023-05-31")),
            ("last january", days("2024-01-01", "2024-01-31")),
        ],
    )
    def test_what_depends_on_the_day_is_read_where_the_day_is_known(self, query, span):
        assert list(analyze(query, now=ASKED).moments) == span
        assert not [m for m in analyze(query).moments if isinstance(m, Span)]

    def test_a_month_of_an_unknown_year_is_read_without_the_day(self):
        assert analyze("What happened last May?").moments == (Moment(5),)

    @pytest.mark.parametrize(
        ("told", "written", "near"),
        [
            (days("2024-03-09", "2024-03-10")[0], date(2024, 3, 12), 1.0),
            (days("2024-03-09", "2024-03-10")[0], date(2024, 3, 8), 1.0),
            (days("2024-03-09", "2024-03-10")[0], date(2024, 3, 13), 0.0),
            (days("2024-02-01", "2024-02-29")[0], date(2024, 2, 29), 0.5),
            (days("2024-02-01", "2024-02-29")[0], date(2024, 3, 1), 0.0),
            (Moment(3, None, 8), date(2024, 3, 9), 1.0),
            (Moment(3, None, 8), date(2024, 3, 29), 0.5),
            (Moment(3, 2023), date(2024, 3, 9), 0.0),
        ],
    )
    def test_an_occasion_is_nearer_than_a_long_time(self, told, written, near):
        assert closeness(told, written) == near

    @given(
        st.text() | st.from_regex(r"(last|\d{1,3}) (may|week|years ago|night) \d{4}"),
        st.datetimes(),
    )
    def test_any_text_at_any_time_is_read(self, text, now):
        for told in analyze(text, now=now).moments:
            assert 0 <= closeness(told, now.date()) <= 1


class TestWords:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("take", "took"),
            ("taking", "taken"),
            ("go", "went"),
            ("goes", "gone"),
            ("buying", "bought"),
            ("child", "children"),
            ("paint", "painted"),
        ],
    )
    def test_forms_of_one_word_have_one_stem(self, one, other):
        assert stem(one) == stem(other)
