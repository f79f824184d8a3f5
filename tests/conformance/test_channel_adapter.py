"""What every channel adapter promises, tried on each of them."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.channels.adapter import Account, AccountState, ChannelAdapter, Media, Post
from cadenza.channels.fit import MEASURES
from cadenza.channels.limits import Figure, Unit
from cadenza.channels.registry import ADAPTERS, CHANNELS

every_channel = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS.keys())

media = st.builds(
    Media,
    id=st.text(max_size=5),
    mime=st.sampled_from(["image/jpeg", "image/png", "video/mp4", "text/plain", ""]),
    size_bytes=st.none() | st.integers(0, 5 * 10**9),
    width=st.none() | st.integers(0, 10**5),
    height=st.none() | st.integers(0, 10**5),
    duration_s=st.none() | st.floats(0, 10**6),
)
posts = st.builds(
    Post,
    key=st.text(max_size=20),
    publish_at=st.integers(0, 7 * 10**9).map(lambda second: datetime.fromtimestamp(second, UTC)),
    copy=st.text(max_size=400),
    title=st.text(max_size=20),
    format=st.sampled_from(["post", "story", "reel", "carousel", ""]),
    script=st.none() | st.text(max_size=20),
    hashtags=st.lists(st.text(max_size=10), max_size=40).map(tuple),
    media=st.lists(media, max_size=12).map(tuple),
)


def account(adapter: ChannelAdapter) -> Account:
    return Account(
        id=UUID(int=1),
        channel=adapter.name,
        handle="https://hooks.example/in",
        time_zone="Europe/Madrid",
        state=AccountState.CONNECTED,
    )


def fitting(adapter: ChannelAdapter) -> Post:
    """Return a post that breaks no limit of the channel."""
    kind = next(iter(adapter.limits.kinds), None)
    mime = min(kind.mimes) if kind else "image/jpeg"
    item = Media(id="m1", mime=mime, size_bytes=1000, width=1080, height=1080, duration_s=10)
    return Post(
        key="e1:a1:1",
        publish_at=datetime(2026, 12, 1, 8, tzinfo=UTC),
        copy="Hello",
        media=(item,) * adapter.limits.media_count.at_least,
    )


def text_of(figure: Figure, size: int) -> str:
    """Return a text of a size in the figure's unit, made of what is costly in that unit."""
    pattern = {Unit.UTF16: "🙂", Unit.UTF8: "字", Unit.GRAPHEMES: "e\u0301"}[figure.unit]
    each = MEASURES[figure.unit](pattern)
    return pattern * (size // each) + "x" * (size % each)


def test_the_registry_knows_each_adapter_by_its_own_name() -> None:
    assert CHANNELS == ("instagram", "tiktok", "bluesky", "webhook", "dryrun")
    assert [adapter.name for adapter in ADAPTERS.values()] == list(CHANNELS)


@every_channel
@given(post=posts)
def test_any_post_is_judged_without_raising_and_always_alike(
    adapter: ChannelAdapter, post: Post
) -> None:
    issues = adapter.validate(post)
    assert issues == adapter.validate(replace(post))
    assert all(issue.detail.endswith(".") for issue in issues)


@every_channel
@given(post=posts)
def test_any_posts_request_is_json_and_always_the_same_bytes(
    adapter: ChannelAdapter, post: Post
) -> None:
    request = orjson.dumps(adapter.frozen_request(post, account(adapter)))
    assert request == orjson.dumps(adapter.frozen_request(replace(post), account(adapter)))
    calls = orjson.loads(request)["calls"]
    assert {call["step"] for call in calls} <= {"prepare", "commit"}


@every_channel
def test_a_fitting_post_has_no_issues_and_one_commit_which_is_the_last_call(
    adapter: ChannelAdapter,
) -> None:
    post = fitting(adapter)
    assert adapter.validate(post) == ()
    calls = adapter.frozen_request(post, account(adapter))["calls"]
    assert [call["step"] for call in calls].count("commit") == 1
    assert calls[-1]["step"] == "commit"


@every_channel
@given(over=st.integers(1, 500))
def test_a_text_over_a_limit_is_always_reported_and_one_at_it_never(
    adapter: ChannelAdapter, over: int
) -> None:
    for figure in adapter.limits.text:
        at = replace(fitting(adapter), copy=text_of(figure, figure.at_most))
        beyond = replace(at, copy=text_of(figure, figure.at_most + over))
        reported = [issue.limit for issue in adapter.validate(at)]
        assert figure.at_most not in reported
        (issue,) = [i for i in adapter.validate(beyond) if i.limit == figure.at_most]
        assert (issue.code, issue.field) == ("OVER_LIMIT", "copy")


@every_channel
def test_the_hashtags_count_towards_the_text(adapter: ChannelAdapter) -> None:
    figure = adapter.limits.text[0]
    post = replace(fitting(adapter), copy=text_of(figure, figure.at_most), hashtags=("spring",))
    assert figure.at_most in [issue.limit for issue in adapter.validate(post)]


@every_channel
def test_too_many_and_too_few_media_are_reported(adapter: ChannelAdapter) -> None:
    count, post = adapter.limits.media_count, fitting(adapter)
    item = (post.media or (Media(id="m1", mime="image/jpeg"),))[0]
    many = replace(post, media=(item,) * (count.at_most + 1))
    assert [issue.code for issue in adapter.validate(many)] == ["OVER_LIMIT"]
    if count.at_least:
        (issue,) = adapter.validate(replace(post, media=()))
        assert issue.code == "MISSING_MEDIA"


@every_channel
def test_every_figure_says_where_it_is_from(adapter: ChannelAdapter) -> None:
    limits = adapter.limits
    figures = [*limits.text, limits.media_count, limits.hashtags, limits.mentions]
    for kind in limits.kinds:
        figures += [kind.size_bytes, kind.duration_s, kind.ratio]
    for figure in filter(None, figures):
        assert "2026" in figure.source
        assert figure.at_least <= figure.at_most
