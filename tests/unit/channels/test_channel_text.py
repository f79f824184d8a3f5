"""Hashtags join a text once, and every stretch that a channel marks is where it says it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.channels.text import (
    Span,
    SpanKind,
    clean_tag,
    spans,
    utf8_bytes,
    utf16_units,
    with_hashtags,
)


@pytest.mark.parametrize(
    ("copy", "hashtags", "text"),
    [
        ("Hello", (), "Hello"),
        ("Hello", ("spring", "#sale"), "Hello\n\n#spring #sale"),
        ("Hello #Spring", ("spring", "sale"), "Hello #Spring\n\n#sale"),
        ("Hello #springtime", ("spring",), "Hello #springtime\n\n#spring"),
        ("Hello #spring!", ("spring",), "Hello #spring!"),
        ("Hello  \n", ("a", "A", "b"), "Hello\n\n#a #b"),
        ("Hello", ("new york", "new-york", "#", "2026", "café", "❤️"), "Hello\n\n#newyork #café #❤️"),
        ("", ("a",), "#a"),
    ],
)
def test_hashtags_follow_after_a_blank_line_unless_they_are_there(
    copy: str, hashtags: tuple[str, ...], text: str
) -> None:
    assert with_hashtags(copy, hashtags) == text


@given(st.text(), st.lists(st.text(max_size=8)))
def test_adding_the_hashtags_twice_is_adding_them_once(copy: str, hashtags: list[str]) -> None:
    once = with_hashtags(copy, hashtags)
    assert with_hashtags(once, hashtags) == once


@given(st.text(), st.lists(st.text(max_size=8)))
def test_every_hashtag_is_in_the_text_afterwards(copy: str, hashtags: list[str]) -> None:
    found = {s.value.casefold() for s in spans(with_hashtags(copy, hashtags))}
    wanted = {clean_tag(tag).casefold() for tag in hashtags}
    assert {tag for tag in wanted if tag and not tag.isdigit()} <= found


def test_links_mentions_and_hashtags_are_found_where_they_stand() -> None:
    text = "Ask @ana.bsky.social. (see https://example.com/a_(b)?q=1), #now #42 a@b.c x#y"
    assert [(span.kind, text[span.start : span.end]) for span in spans(text)] == [
        (SpanKind.MENTION, "@ana.bsky.social"),
        (SpanKind.LINK, "https://example.com/a_(b)?q=1"),
        (SpanKind.HASHTAG, "#now"),
    ]


def test_a_links_fragment_is_no_hashtag() -> None:
    assert spans("https://example.com/#top") == [
        Span(SpanKind.LINK, 0, 24, "https://example.com/#top")
    ]


@given(st.text(st.sampled_from("ab #@.:/ht ps()\n❤é🇪")))
def test_spans_come_in_order_without_overlap(text: str) -> None:
    ends = [0]
    for span in spans(text):
        assert ends[-1] <= span.start < span.end <= len(text)
        ends.append(span.end)


@given(st.text())
def test_lengths_are_those_of_the_encodings(text: str) -> None:
    assert utf16_units(text) == len(text.encode("utf-16-le")) // 2
    assert utf8_bytes(text) == len(text.encode())
