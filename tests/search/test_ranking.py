"""What decides the order of a search, part by part."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.search.ranking import (
    WEIGHTS,
    Candidate,
    Moment,
    Question,
    analyze,
    match_terms,
    rank,
)

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
PEOPLE = ("Ada", "Grace")


def turn(ordinal, text, *, speaker="Ada", conversation="c", created_at=NOON, **scores):
    scores.setdefault("text_score", 1.0)
    return Candidate(
        item_id=f"{conversation}-{ordinal:03}",
        kind="message",
        text=text,
        created_at=created_at,
        conversation=conversation,
        ordinal=ordinal,
        speaker=speaker,
        **scores,
    )


def note(item_id, text, *, created_at=NOON, **scores):
    return Candidate(item_id=item_id, kind="memory", text=text, created_at=created_at, **scores)


def order(query, candidates, *, participants=PEOPLE, mode="hybrid", limit=None):
    ranked = rank(analyze(query, participants), candidates, mode=mode, limit=limit)
    return [best.candidate.item_id for best in ranked]


def parts(query, candidates, *, participants=PEOPLE, mode="hybrid"):
    ranked = rank(analyze(query, participants), candidates, mode=mode)
    return {best.candidate.item_id: best.why for best in ranked}


class TestReadingAQuery:
    @pytest.mark.parametrize(
        ("query", "terms"),
        [
            ("Where did Ada go camping in Norway?", ["go", "camping", "norway"]),
            ("what's up?", ["what", "s", "up"]),
            ("Ada", ["ada"]),
            ("What does Ada do?", ["ada"]),
            ("C++", ["c"]),
            ("a AND", ["a", "and"]),
            ("user@example.com", ["user", "example", "com"]),
            ("Zürich café", ["zürich", "café"]),
            ("Où est l'été", ["où", "est", "l", "été"]),
            ("どこに住んでいますか", ["どこに住んでいますか"]),
            ("हिन्दी में", ["हिन्दी", "में"]),
            ("🎉🎉", []),
            ("", []),
            ('"" -- ***', []),
        ],
    )
    def test_telling_words_are_matched_and_others_only_when_nothing_else_is_left(
        self, query, terms
    ):
        assert match_terms(analyze(query, PEOPLE)) == terms

    def test_a_word_is_matched_once_and_a_long_query_by_its_beginning(self):
        words = [f"word{n}" for n in range(5_000)]
        assert match_terms(analyze("tea tea TEA")) == ["tea"]
        assert match_terms(analyze(" ".join(words))) == words[:64]

    @pytest.mark.parametrize(
        ("query", "about"),
        [
            ("Where does ada live?", "Ada"),
            ("What is Ada's dog called?", "Ada"),
            ("Where did Ada meet Grace?", None),
            ("Where is the dog?", None),
        ],
    )
    def test_it_is_about_the_one_participant_it_names(self, query, about):
        assert analyze(query, PEOPLE).about == about

    def test_either_word_of_a_name_names_its_bearer(self):
        assert analyze("What does Lovelace read?", ["Ada Lovelace", "Grace"]).about == (
            "Ada Lovelace"
        )

    def test_a_name_that_is_a_stop_word_names_nobody(self):
        assert analyze("When will it rain?", ["Will", "Ada"]).about is None

    @pytest.mark.parametrize(
        ("query", "asks"),
        [
            ("When did it rain?", True),
            ("How long was it?", True),
            ("In what year did she marry?", True),
            ("Which day suits her?", True),
            ("What happened when it rained?", False),
        ],
    )
    def test_it_asks_for_a_time_in_so_many_words(self, query, asks):
        assert analyze(query).asks_time is asks

    @pytest.mark.parametrize(
        ("query", "moments"),
        [
            ("in May 2023", [Moment(5, 2023)]),
            ("on 8 May, 2023", [Moment(5, 2023, 8)]),
            ("on the 8th of May", [Moment(5, None, 8)]),
            ("August 3rd, 2022", [Moment(8, 2022, 3)]),
            ("2023-05-08", [Moment(5, 2023, 8)]),
            ("between June and July 2023", [Moment(6), Moment(7, 2023)]),
            ("What may they march for?", []),
            ("on 31 February", [Moment(2)]),
            ("0000-05-01 and 2023-13-01", [Moment(5, None, 1)]),
        ],
    )
    def test_its_dates_are_read(self, query, moments):
        assert list(analyze(query).moments) == moments

    def test_a_participant_named_as_a_month_is_no_date(self):
        assert analyze("What did June cook in July?", ["June", "Ada"]).moments == (Moment(7),)


class TestWhatCounts:
    def test_a_rare_word_tells_more_than_a_frequent_one(self):
        crowd = [turn(n * 10, "tea again") for n in range(20)]
        rare = turn(500, "an otter")
        assert order("otter tea", [*crowd, rare])[0] == rare.item_id

    def test_an_inflected_word_is_the_same_word(self):
        assert order("painting studies", [turn(0, "carts"), turn(10, "painted a study")])[0] == (
            "c-010"
        )

    def test_an_irregular_form_is_the_same_word(self):
        found = parts("Which trip did Ada take?", [turn(0, "We took it."), turn(10, "A tooth.")])
        assert found["c-000"]["cover"] > found["c-010"]["cover"] == 0.0

    def test_how_it_is_asked_tells_less_than_what(self):
        told = [turn(0, "That is kind."), turn(10, "A kayak.")]
        assert order("What kind of kayak?", told)[0] == "c-010"

    def test_a_conversation_that_comes_near_counts_for_all_its_turns(self):
        told = [
            turn(0, "one", dense_score=0.1),
            turn(50, "two", dense_score=0.9),
            turn(0, "six", conversation="d", dense_score=0.1),
        ]
        found = parts("kayak", told)
        assert found["c-000"]["session"] == found["c-050"]["session"] > found["d-000"]["session"]

    def test_what_tells_is_better_than_what_asks(self):
        assert order("tea", [turn(0, "More tea?"), turn(50, "More tea.")])[0] == "c-050"

    def test_other_weights_can_be_tried(self):
        [best] = rank(analyze("tea"), [turn(0, "tea")], weights={"cover": 2.0})
        assert best.why == {"cover": 1.0}

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("cafe", "the Café"),
            ("über", "ÜBER"),
            ("naïve", "naive"),
            ("한국", "한국 여행"),
            ("か", "か が"),
        ],
    )
    def test_case_and_accents_do_not_matter_and_other_scripts_do_pass(self, query, text):
        assert parts(query, [turn(0, "nothing"), turn(10, text)])["c-010"]["cover"] > 0.0

    def test_marks_that_make_another_letter_are_kept(self):
        assert parts("か", [turn(0, "が 語")])["c-000"]["cover"] == 0.0

    def test_a_word_inside_another_word_is_not_that_word(self):
        found = parts("art", [turn(0, "a cart"), turn(10, "some art")])
        assert found["c-000"]["cover"] == 0.0 < found["c-010"]["cover"]

    def test_a_turn_among_turns_that_tell_of_it_is_better(self):
        told = [turn(0, "the otter"), turn(1, "it swam off"), turn(50, "it swam off")]
        assert order("otter swam", told)[2] == "c-050"

    def test_a_turn_in_another_conversation_is_not_beside(self):
        told = [turn(0, "the otter", conversation="a"), turn(1, "it swam off", conversation="b")]
        assert parts("otter", told)["b-001"]["cover"] == 0.0

    def test_what_stands_alone_is_beside_nothing(self):
        told = [note("a", "the otter", ordinal=0), note("b", "it swam off", ordinal=1)]
        assert parts("otter", told)["b"]["cover"] == 0.0

    def test_an_answer_inherits_from_the_question_before_it(self):
        told = [
            turn(0, "Which bird nests on your roof, Grace?", speaker="Ada"),
            turn(1, "A stork, for years now.", speaker="Grace"),
            turn(2, "A stork, for years now.", speaker="Grace"),
        ]
        found = parts("bird on the roof", told)
        assert found["c-001"]["answer"] > found["c-002"]["answer"] == 0.0
        assert order("bird on the roof", told).index("c-001") < 2

    def test_only_a_question_is_answered(self):
        told = [turn(0, "A bird nests on the roof."), turn(1, "A stork.")]
        assert parts("bird on the roof", told)["c-001"]["answer"] == 0.0

    def test_the_one_who_is_named_is_the_one_to_hear(self):
        told = [turn(0, "I paint", speaker="Grace"), turn(50, "I paint", speaker="Ada")]
        assert order("What does Ada paint?", told)[0] == "c-050"
        assert order("What does Grace paint?", told)[0] == "c-000"

    def test_a_memory_that_names_the_one_named_counts_as_theirs(self):
        found = parts("What does Ada climb?", [note("a", "Ada climbs."), note("b", "Bo climbs.")])
        assert found["a"]["speaker"] > found["b"]["speaker"] == 0.0

    def test_words_that_stand_together_are_better_than_apart(self):
        told = [turn(0, "a book about a green"), turn(50, "about a green book")]
        assert order("green book", told)[0] == "c-050"

    def test_words_of_two_texts_do_not_stand_together(self):
        told = [turn(0, "It was green"), turn(1, "book of mine"), turn(2, "that is")]
        assert {why["phrase"] for why in parts("green book", told).values()} == {0.0}

    def test_a_question_of_time_looks_for_words_of_time(self):
        told = [turn(0, "I swam in the sea"), turn(50, "I swam yesterday")]
        assert order("When did she swim or swam?", told)[0] == "c-050"

    @pytest.mark.parametrize(
        ("query", "best"),
        [
            ("rain in March 2024", "c-020"),
            ("rain in May 2023", "c-010"),
            ("rain on 4 March", "c-020"),
        ],
    )
    def test_a_date_looks_for_what_was_written_then(self, query, best):
        told = [
            turn(10, "rain", created_at=datetime(2023, 5, 8, tzinfo=UTC)),
            turn(20, "rain", created_at=NOON),
            turn(30, "rain", created_at=datetime(2025, 1, 1, tzinfo=UTC)),
        ]
        assert order(query, told)[0] == best

    def test_a_day_is_better_than_its_month(self):
        told = [turn(n * 10, "rain", created_at=NOON + timedelta(days=n)) for n in range(8)]
        found = parts("rain on 5 March", told)
        whole, half = found["c-020"]["date"], found["c-030"]["date"]
        assert whole == pytest.approx(2 * half)
        assert half > 0

    def test_closeness_of_meaning_counts_and_so_does_that_of_the_turn_beside(self):
        told = [
            turn(4, "one", dense_score=0.1),
            turn(5, "two", dense_score=0.9),
            turn(6, "six", dense_score=0.1),
            turn(1, "ten", dense_score=0.1),
        ]
        assert order("kayak", told) == ["c-005", "c-004", "c-006", "c-001"]
        assert parts("kayak", told)["c-001"]["near"] == 0.0

    def test_a_thanks_is_less_than_a_story(self):
        assert order("kayak", [turn(0, "Thanks!"), turn(50, "So there we were. " * 10)])[0] == (
            "c-050"
        )

    def test_turns_are_ordered_without_the_engines_score(self):
        told = [turn(n * 10, f"tea {n}", text_score=float(n)) for n in range(5)]
        assert order("tea", told) == order("tea", list(reversed(told)))
        assert len({best.score for best in rank(analyze("tea"), told)}) == 1

    def test_documents_are_ordered_with_the_engines_score(self):
        assert order("tea", [note("a", "tea", text_score=1), note("b", "tea", text_score=2)]) == [
            "b",
            "a",
        ]

    def test_a_memory_and_a_message_share_one_order(self):
        mixed = [
            note("memory", "Ada lives in Oslo.", text_score=2.0, dense_score=0.8),
            turn(0, "Nice weather!", dense_score=0.1),
            turn(1, "I live in Oslo now.", dense_score=0.7),
        ]
        assert order("Where does Ada live? Oslo?", mixed)[-1] == "c-000"


class TestModes:
    TOLD = (
        turn(0, "the otter swam", text_score=3.0, dense_score=0.1),
        turn(20, "the seal dived", text_score=0.0, dense_score=0.9),
        turn(40, "the otter", text_score=1.0, dense_score=None),
    )

    def test_keyword_finds_what_the_text_search_found(self):
        assert order("otter swam", self.TOLD, mode="keyword") == ["c-000", "c-040"]

    def test_semantic_finds_what_has_a_vector(self):
        assert order("otter swam", self.TOLD, mode="semantic") == ["c-020", "c-000"]

    def test_hybrid_finds_all(self):
        assert len(order("otter swam", self.TOLD)) == 3

    @pytest.mark.parametrize("mode", WEIGHTS)
    @pytest.mark.parametrize("query", ["🎉", "", "what's up?", "C++", "\x00", "x" * 65_536])
    def test_every_text_is_a_query(self, mode, query):
        assert all(0 <= best.score <= 1 for best in rank(analyze(query), self.TOLD, mode=mode))

    @pytest.mark.parametrize("mode", WEIGHTS)
    def test_nothing_offered_nothing_found(self, mode):
        assert rank(analyze("otter"), [], mode=mode) == []

    def test_the_only_candidate_is_not_worthless(self):
        [best] = rank(analyze("otter"), [note("a", "seal", dense_score=0.3)], mode="semantic")
        assert best.score == 1.0

    def test_a_question_without_words_finds_nothing_for_sure(self):
        [nearest, *_] = rank(analyze("?!"), [*self.TOLD, note("a", "seal", dense_score=1.0)])
        assert nearest.score < 0.7

    def test_without_any_vector_hybrid_weighs_what_there_is(self):
        [best] = rank(analyze("otter"), [note("a", "otter", text_score=1.0)])
        weighed = {name: weight for name, weight in WEIGHTS["hybrid"].items() if name in best.why}
        assert weighed.keys() == {"cover", "answer", "tells", "length"}
        without_answer = sum(weighed.values()) - weighed["answer"]
        assert best.score == pytest.approx(without_answer / sum(weighed.values()))

    def test_a_limit_takes_the_first(self):
        assert order("otter", self.TOLD, limit=1) == order("otter", self.TOLD)[:1]


class TestOrder:
    def test_ties_go_to_the_later_and_then_to_the_lower_id(self):
        same = [
            note("b", "tea"),
            note("a", "tea"),
            note("z", "tea", created_at=NOON + timedelta(seconds=1)),
        ]
        assert order("tea", same) == ["z", "a", "b"]


WORDS = st.sampled_from(["tea", "otter", "Ada", "swam?", "yesterday", "Café", "한국", "🎉"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        item_id=st.text("abcdef", min_size=1, max_size=4),
        kind=st.sampled_from(["message", "memory"]),
        text=TEXTS | st.text(max_size=20),
        created_at=st.datetimes(timezones=st.just(UTC)),
        text_score=st.floats(0, 30),
        dense_score=st.none() | st.floats(-1, 1),
        conversation=st.none() | st.sampled_from(["c", "d"]),
        ordinal=st.integers(0, 6),
        speaker=st.none() | st.sampled_from(PEOPLE),
    ),
    max_size=12,
    unique_by=(
        lambda c: c.item_id,
        lambda c: (c.conversation and (c.conversation, c.ordinal)) or c.item_id,
    ),
)
QUESTIONS = st.builds(
    analyze,
    TEXTS | st.text(max_size=30) | st.just("When did Ada swim on 8 May 2023?"),
    st.just(PEOPLE),
)


@given(
    question=QUESTIONS, candidates=CANDIDATES, mode=st.sampled_from(sorted(WEIGHTS)), data=st.data()
)
def test_the_order_offered_does_not_matter(
    question: Question, candidates: list[Candidate], mode, data
):
    shuffled = data.draw(st.permutations(candidates))
    assert rank(question, shuffled, mode=mode) == rank(question, candidates, mode=mode)


@given(question=QUESTIONS, candidates=CANDIDATES, mode=st.sampled_from(sorted(WEIGHTS)))
def test_scores_fall_from_one_to_zero_and_their_parts_add_up(question, candidates, mode):
    ranked = rank(question, candidates, mode=mode)
    scores = [best.score for best in ranked]
    assert scores == sorted(scores, reverse=True)
    for best in ranked:
        assert 0.0 <= best.score <= 1.0
        assert min(best.why.values()) >= 0.0
        assert sum(best.why.values()) == pytest.approx(best.score, abs=1e-8)


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_as_a_question(text):
    question = analyze(text, PEOPLE)
    assert all(term.strip() for term in match_terms(question))
