"""Instagram gets containers first and exactly one publishing call."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from cadenza.channels.adapter import Account, AccountState, FrozenRequest, Media, Post
from cadenza.channels.instagram import Instagram

AT = datetime(2026, 12, 1, 8, tzinfo=UTC)
ACCOUNT = Account(
    id=UUID(int=1),
    channel="instagram",
    handle="cadenza",
    time_zone="Europe/Madrid",
    state=AccountState.CONNECTED,
)
JPEG = Media(id="m1", mime="image/jpeg", size_bytes=1000, width=1080, height=1080)
VIDEO = Media(id="m2", mime="video/mp4", size_bytes=1000, duration_s=10)


def post(*media: Media, text: str = "Hello", kind: str = "post") -> Post:
    return Post(key="k", publish_at=AT, copy=text, format=kind, media=media)


def bodies(request: FrozenRequest) -> list[dict[str, object]]:
    return [call["body"] for call in request["calls"]]


def test_a_post_without_media_is_refused() -> None:
    (issue,) = Instagram().validate(post())
    assert (issue.code, issue.field, issue.limit) == ("MISSING_MEDIA", "media", 1)
    assert "image/jpeg" in issue.detail


@pytest.mark.parametrize(
    ("media", "code"),
    [
        (Media(id="m", mime="image/png"), "CHANNEL_UNSUPPORTED"),
        (Media(id="m", mime="image/jpeg", size_bytes=8 * 1024 * 1024 + 1), "OVER_LIMIT"),
        (Media(id="m", mime="image/jpeg", width=1080, height=1920), "OVER_LIMIT"),
        (Media(id="m", mime="video/mp4", duration_s=2.9), "OVER_LIMIT"),
        (Media(id="m", mime="video/mp4", duration_s=901), "OVER_LIMIT"),
    ],
)
def test_media_outside_the_limits_is_refused(media: Media, code: str) -> None:
    assert [issue.code for issue in Instagram().validate(post(media))] == [code]


@pytest.mark.parametrize(
    "media",
    [
        JPEG,
        VIDEO,
        Media(id="m", mime="image/jpeg"),
        Media(id="m", mime="image/jpeg", width=1080, height=1350),
        Media(id="m", mime="image/jpeg", size_bytes=8 * 1024 * 1024),
    ],
)
def test_media_at_the_limits_and_media_of_unknown_size_pass(media: Media) -> None:
    assert Instagram().validate(post(media)) == ()


def test_hashtags_and_mentions_are_counted() -> None:
    tags = " ".join(f"#t{n}" for n in range(31))
    people = " ".join(f"@p{n}" for n in range(21))
    issues = Instagram().validate(post(JPEG, text=f"{tags} {people}"))
    assert [(issue.field, issue.limit) for issue in issues] == [("hashtags", 30), ("copy", 20)]


def test_a_picture_is_one_container_and_a_video_is_a_reel() -> None:
    instagram = Instagram()
    assert bodies(instagram.frozen_request(post(JPEG), ACCOUNT))[0] == {
        "image_url": {"$later": "public address of media m1"},
        "caption": "Hello",
    }
    assert bodies(instagram.frozen_request(post(VIDEO), ACCOUNT))[0]["media_type"] == "REELS"


def test_a_story_has_no_caption() -> None:
    (container, _) = bodies(Instagram().frozen_request(post(JPEG, kind="story"), ACCOUNT))
    assert container["media_type"] == "STORIES"
    assert "caption" not in container


def test_several_media_are_a_carousel_in_their_order() -> None:
    found = bodies(Instagram().frozen_request(post(JPEG, VIDEO), ACCOUNT))
    assert [set(body) for body in found] == [
        {"image_url", "is_carousel_item"},
        {"video_url", "is_carousel_item"},
        {"media_type", "children", "caption"},
        {"creation_id"},
    ]


def test_media_that_has_an_address_of_its_own_is_fetched_from_there() -> None:
    media = Media(id="https://cdn.example/a.jpg", mime="image/jpeg")
    (container, _) = bodies(Instagram().frozen_request(post(media), ACCOUNT))
    assert container["image_url"] == "https://cdn.example/a.jpg"
