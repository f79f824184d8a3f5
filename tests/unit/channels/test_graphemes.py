"""What a reader calls one character counts as one, whatever it is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.channels.graphemes import grapheme_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("abc", 3),
        ("a\r\nb", 3),
        ("\n\n", 2),
        ("é", 1),
        ("e\u0301", 1),
        ("e\u0301\u0302a", 2),
        ("👍🏽", 1),
        ("👨\u200d👩\u200d👧\u200d👦", 1),
        ("❤\ufe0f", 1),
        ("❤\ufe0f\u200d🔥", 1),
        ("a\u200db", 2),
        ("a\u200d🔥", 2),
        ("🇪🇸", 1),
        ("🇪🇸🇫🇷", 2),
        ("🇪🇸🇫", 2),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", 1),
        ("1\ufe0f\u20e3", 1),
        ("한국", 2),
        ("\u1112\u1161\u11ab", 1),
        ("กำ", 1),
        ("漢字かな", 4),
        ("🙂🙂", 2),
        ("\u200b\u0301", 2),
    ],
)
def test_a_cluster_is_one(text: str, count: int) -> None:
    assert grapheme_count(text) == count


@given(st.text())
def test_there_are_never_more_clusters_than_code_points(text: str) -> None:
    assert (1 if text else 0) <= grapheme_count(text) <= len(text) or not text


@given(st.text(), st.text())
def test_joining_two_texts_never_makes_more_and_a_line_end_always_parts_them(
    one: str, two: str
) -> None:
    apart = grapheme_count(one) + grapheme_count(two)
    assert grapheme_count(one + two) <= apart + 1
    assert grapheme_count(f"{one}\u2028{two}") == apart + 1
