"""TikTok gets a whole file in pieces that its guide allows, and the last one publishes."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cadenza.channels.adapter import Account, AccountState, Call, Media, Post
from cadenza.channels.tiktok import TikTok, chunks

AT = datetime(2026, 12, 1, 8, tzinfo=UTC)
ACCOUNT = Account(
    id=UUID(int=1),
    channel="tiktok",
    handle="cadenza",
    time_zone="Europe/Madrid",
    state=AccountState.CONNECTED,
)
MB = 1_000_000


def calls(size_bytes: int | None) -> list[Call]:
    media = Media(id="m1", mime="video/mp4", size_bytes=size_bytes)
    post = Post(key="k", publish_at=AT, copy="Hello", media=(media,))
    return TikTok().frozen_request(post, ACCOUNT)["calls"]


def test_a_post_without_a_video_is_refused() -> None:
    (issue,) = TikTok().validate(Post(key="k", publish_at=AT, copy="Hello"))
    assert issue.code == "MISSING_MEDIA"
    assert "video/mp4" in issue.detail


@given(st.integers(1, 4_000 * MB))
def test_pieces_are_as_large_as_the_guide_allows(size: int) -> None:
    chunk, count = chunks(size)
    last = size - chunk * (count - 1)
    assert count == max(1, size // chunk)
    assert 1 <= count <= 1000
    assert last <= 128 * MB
    assert chunk == size if count == 1 else 5 * MB <= chunk <= 64 * MB


@given(st.integers(1, 400 * MB))
def test_the_pieces_cover_the_file_once_and_only_the_last_publishes(size: int) -> None:
    at = 0
    _, *pieces = calls(size)
    for piece in pieces:
        first, last = (
            str(piece["headers"]["Content-Range"]).removeprefix("bytes ").split("/")[0].split("-")
        )
        assert int(first) == at
        at = int(last) + 1
    assert at == size
    assert [piece["step"] for piece in pieces] == ["prepare"] * (len(pieces) - 1) + ["commit"]


def test_a_file_of_unknown_size_is_sent_as_what_it_will_turn_out_to_be() -> None:
    init, piece = calls(None)
    size = {"$later": "size of the file"}
    assert init["body"]["source_info"] == {
        "source": "FILE_UPLOAD",
        "video_size": size,
        "chunk_size": size,
        "total_chunk_count": size,
    }
    assert piece["step"] == "commit"
