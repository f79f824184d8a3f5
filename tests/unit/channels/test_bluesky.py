"""A Bluesky record is byte-stable, named by its post, and marked at UTF-8 offsets."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cadenza.channels.adapter import Account, AccountState, Media, Post
from cadenza.channels.bluesky import Bluesky, facets, record_key

AT = datetime(2026, 12, 1, 8, tzinfo=UTC)
ACCOUNT = Account(
    id=UUID(int=1),
    channel="bluesky",
    handle="cadenza.test",
    time_zone="Europe/Madrid",
    state=AccountState.CONNECTED,
)


def test_a_record_key_is_a_tid_of_the_posts_second() -> None:
    key = record_key(AT, "e1:a1:1")
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    number = 0
    for char in key:
        number = number * 32 + digits.index(char)
    assert len(key) == 13
    assert key[0] in "234567abcdefghij"
    assert (number >> 10) // 1_000_000 == int(AT.timestamp())


def test_the_same_post_has_the_same_record_key_and_another_has_another() -> None:
    keys = {record_key(AT, f"e{n}:a1:1") for n in range(2000)}
    assert record_key(AT, "e1:a1:1") == record_key(AT, "e1:a1:1")
    assert len(keys) == 2000


@given(st.text(st.sampled_from("aé❤🇪 #@.:/htps\n")))
def test_facets_cut_the_text_at_whole_characters(text: str) -> None:
    raw = text.encode()
    for facet in facets(text):
        index = facet["index"]
        assert isinstance(index, dict)
        raw[index["byteStart"] : index["byteEnd"]].decode()


def test_facets_name_link_hashtag_and_a_mention_to_be_looked_up() -> None:
    assert facets("é #now @ana.test https://a.example @ana") == [
        {
            "index": {"byteStart": 3, "byteEnd": 7},
            "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "now"}],
        },
        {
            "index": {"byteStart": 8, "byteEnd": 17},
            "features": [
                {
                    "$type": "app.bsky.richtext.facet#mention",
                    "did": {"$later": "account of @ana.test"},
                }
            ],
        },
        {
            "index": {"byteStart": 18, "byteEnd": 35},
            "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://a.example"}],
        },
    ]


def test_the_record_is_put_only_where_nothing_stands() -> None:
    post = Post(
        key="k",
        publish_at=AT,
        copy="Hello",
        title="A cat",
        media=(Media(id="m1", mime="image/jpeg", width=4, height=5),),
    )
    calls = Bluesky().frozen_request(post, ACCOUNT)["calls"]
    upload, put = calls
    assert upload["url"].endswith("uploadBlob")
    assert put["body"]["swapRecord"] is None
    assert put["body"]["rkey"] == record_key(AT, "k")
    assert put["body"]["record"] == {
        "$type": "app.bsky.feed.post",
        "text": "Hello",
        "createdAt": "2026-12-01T08:00:00.000Z",
        "embed": {
            "$type": "app.bsky.embed.images",
            "images": [
                {
                    "alt": "A cat",
                    "image": {"$later": "blob of media m1"},
                    "aspectRatio": {"width": 4, "height": 5},
                }
            ],
        },
    }
