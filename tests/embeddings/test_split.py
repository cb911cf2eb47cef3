from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pattern_db.embeddings.split import by_bytes, split_text, well_formed
from pattern_db.embeddings.wordpiece import by_word_pieces, tokenizer

PROSE = "The cat sat on the mat. It purred! Did the dog mind? No, it slept on.\n"
MIB = 1 << 20
HUGE = {
    "one word": "a" * MIB,
    "prose": PROSE * (MIB // len(PROSE)),
    "dots": "." * MIB,
    "emoji": "👩‍👩‍👧‍👦" * (MIB // 25),
    "accents": "\u0301" * (MIB // 2),
    "blank": " \t\n" * (MIB // 3),
    "Hangul": "한국어 " * (MIB // 10),
    "half surrogates": "\ud800" * (MIB // 3),
}
alphabets = st.one_of(
    st.text(max_size=400),
    st.text("ab .\n", max_size=900),
    st.text("한가\u0301\ud800👩\u200d Zß.,_-", max_size=700),
    st.lists(st.sampled_from(["don't", "e\u0301", "北京", "🙂", "…", " ", "\x00", "x" * 120])).map(
        "".join
    ),
)


def word_pieces(text: str) -> int:
    return len(tokenizer().encode(well_formed(text)).ids)


def covers(ranges: list[tuple[int, int]], text: str) -> bool:
    ends = [0, *(end for _, end in ranges)]
    return ends[-1] == len(text) and [start for start, _ in ranges] == ends[:-1]


@settings(max_examples=150, deadline=None)
@given(alphabets)
@example("")
@example("한" * 300)
@example("\ud800" * 300)
def test_pieces_cover_the_text_and_fit_the_window(text: str) -> None:
    ranges = by_word_pieces(128)(text)
    assert covers(ranges, text)
    assert all(word_pieces(text[start:end]) <= 128 for start, end in ranges)
    assert len(ranges) == 1 or all(start < end for start, end in ranges)


@settings(max_examples=150, deadline=None)
@given(alphabets, st.integers(4, 200))
def test_no_piece_has_more_bytes_than_the_window_tokens(text: str, window: int) -> None:
    ranges = by_bytes(window)(text)
    assert covers(ranges, text)
    sizes = [len(text[start:end].encode("utf-8", "surrogatepass")) for start, end in ranges]
    assert max(sizes) <= window


@settings(max_examples=150, deadline=None)
@given(alphabets, st.integers(1, 200))
def test_no_piece_has_more_characters_than_asked_for(text: str, max_chars: int) -> None:
    ranges = split_text(text, max_chars)
    assert covers(ranges, text)
    assert max(end - start for start, end in ranges) <= max_chars


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("split", [by_word_pieces(256), by_bytes(512)], ids=["words", "bytes"])
def test_a_mebibyte_of_anything_is_split_in_seconds(name: str, split) -> None:
    begun = time.process_time()
    ranges = split(HUGE[name])
    assert time.process_time() - begun < 20
    assert covers(ranges, HUGE[name])


@pytest.mark.parametrize("text", ["", " \n\t ", "word", "\x00", "a" * 254, "one " * 254])
def test_what_fits_is_one_range(text: str) -> None:
    assert by_word_pieces(256)(text) == [(0, len(text))]


def test_blank_text_of_any_length_is_one_range() -> None:
    assert by_word_pieces(256)(" " * 100_000) == [(0, 100_000)]


def test_one_word_more_than_the_window_is_two_even_pieces() -> None:
    text = "one " * 255
    (_, middle), _ = by_word_pieces(256)(text)
    assert 120 <= middle / 4 <= 135


def test_cuts_fall_after_sentences() -> None:
    text = PROSE * 40
    for start, _ in by_word_pieces(256)(text)[1:] + by_bytes(512)(text)[1:]:
        assert text[start - 1] in " \n"
        assert text[start - 2] in ".!?"


def test_cuts_fall_between_words_where_there_are_no_sentences() -> None:
    text = "lorem ipsum dolor sit amet " * 100
    assert all(text[start - 1] == " " for start, _ in by_bytes(512)(text)[1:])


def test_json_without_spaces_is_cut_at_punctuation() -> None:
    text = '{"identifier":12345,"description":"nothing"},' * 60
    for start, _ in by_bytes(512)(text)[1:]:
        assert not (text[start - 1].isalnum() and text[start].isalnum())


def test_special_tokens_in_a_text_are_text() -> None:
    assert tokenizer().encode("hello world").ids == [101, 7592, 2088, 102]
    assert tokenizer().encode("[SEP]").tokens == ["[CLS]", "[", "sep", "]", "[SEP]"]


def test_the_tokenizer_reads_as_bert_does() -> None:
    tokens = tokenizer().encode("Unaffable Ünïcode, 北京!").tokens[1:-1]
    assert tokens == ["una", "##ffa", "##ble", "unicode", ",", "北", "京", "!"]
