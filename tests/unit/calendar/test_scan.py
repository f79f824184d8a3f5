import json
from collections.abc import Iterable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.calendar.scan import Scanner

A, B = '{"title":"one"}', '{"title":"two"}'


def scan(pieces: Iterable[str]) -> list[str | None]:
    scanner = Scanner()
    return [found for piece in pieces for found in scanner.feed(piece)]


@pytest.mark.parametrize(
    "said",
    [
        f"{A}\n{B}\n",
        f"{A}\n{B}",
        f"{A}{B}",
        f"{A}\r\n\r\n{B}\r\n",
        f"Sure! Here it is:\n```jsonl\n{A}\n{B}\n```\nAnything else?",
        f"[{A},{B}]",
        f"```json\n[\n  {A},\n  {B}\n]\n```",
        f'{{"entries":[{A},{B}]}}',
        f'{{"timezone": "UTC", "entries": [\n{A},\n{B}\n]}}',
        f'{{"calendar": {{"posts": [{A}, {B}]}}}}',
        f'It\'s the "best" plan: {A} and then {B}.',
    ],
)
def test_objects_are_found_whatever_is_wrapped_around_them(said: str) -> None:
    assert scan([said]) == [A, B]
    assert scan(said) == [A, B]


@pytest.mark.parametrize(
    "whole",
    [
        r'{"title":"a \" { [ } ] quote"}',
        r'{"title":"ends in a backslash \\"}',
        '{"title":"ünïcödé 🥐 {"}',
        '{\n  "title": "pretty",\n  "hashtags": [\n    "a"\n  ]\n}',
        '{"title":"t","media":[{"url":"u"},{"url":"v"}]}',
        '{"title":"t","meta":{"mood":{"x":1}}}',
    ],
)
def test_an_object_is_found_whole_in_pieces_of_any_size(whole: str) -> None:
    for size in (1, 2, 3, 7, 1000):
        assert scan(whole[at : at + size] for at in range(0, len(whole), size)) == [whole]


@pytest.mark.parametrize(
    "broken",
    [
        '{"title":"no end quote}',
        '{"title":"odd, "channel":"tiktok"}',
        '{"title":"no end brace"',
        '{"title":"list left open","hashtags":["a","b"}',
        '{"title":"list cut","hashtags":["a",',
        '{"title":"wrong end"]',
        '{"title":"brace too many in front"' + ',{"x":1',
    ],
)
def test_a_damaged_line_costs_itself_and_not_its_neighbours(broken: str) -> None:
    for said in ([f"{A}\n{broken}\n{B}\n"], f"{A}\n{broken}\n{B}\n"):
        found = scan(said)
        assert found[0] == A
        assert found[-1] == B
        assert set(found[1:-1]) == {None}


def test_a_damaged_object_in_a_list_on_one_line_costs_itself() -> None:
    assert scan(['[{"title":"one"},{"title":"lost",{"title":"two"}]']) == [A, None, B]


def test_an_object_that_has_only_begun_is_inside_until_it_ends() -> None:
    scanner = Scanner()
    assert list(scanner.feed(A[:5])) == []
    assert scanner.is_inside
    assert list(scanner.feed(A[5:])) == [A]
    assert not scanner.is_inside


def test_prose_alone_has_nothing_in_it() -> None:
    assert scan(["Post when your readers are awake, [not] at night."]) == []


@pytest.mark.parametrize("opener", ['{"a":', "[", '{"a":[', "{", '{"'])
def test_a_model_that_only_opens_is_read_in_linear_time(opener: str) -> None:
    found = scan(["{" + opener * (300_000 // len(opener))])
    assert set(found) <= {None}


values = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none(),
    lambda inner: st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    objects=st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5),
    size=st.integers(1, 40),
    escaped=st.booleans(),
)
def test_what_a_model_writes_line_by_line_is_what_is_read(
    *, objects: list[dict[str, object]], size: int, escaped: bool
) -> None:
    said = "".join(json.dumps(one, ensure_ascii=escaped) + "\n" for one in objects)
    found = scan(said[at : at + size] for at in range(0, len(said), size))
    assert [cast("object", json.loads(one or "null")) for one in found] == objects
