"""Find JSON objects in text that arrives in pieces, whatever a model wraps around them."""

import re
from collections.abc import Iterator
from typing import Final

_OUTSIDE = re.compile(r"\{")
_INSIDE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\\n]')
_OPENS_LIST = re.compile(r'"([^"\\]*)"\s*:\s*\[\s*$')
_TAIL_CHARS: Final = 200
_MAX_DEPTH: Final = 32
_CLOSED_BY: Final = {"{": "}", "[": "]"}
_LISTS_IN_AN_ENTRY = frozenset({"media", "hashtags"})


class Scanner:
    """Cuts complete JSON objects out of a stream; an object is found at its closing brace.

    Prose, code fences, commas and a surrounding array are passed over. An object that holds a list
    of objects under any key but `media` or `hashtags` is a wrapper: the listed objects are found
    one by one. A damaged object is given up at the end of its line or where the next one clearly
    begins, so that it costs itself and not its neighbours.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._tail = ""  # the last of the pieces, so that looking back costs the same at any size
        self._open = ""
        self._in_string = False
        self._escaped = False

    @property
    def is_inside(self) -> bool:
        """Whether an object has begun and not ended."""
        return bool(self._open)

    def feed(self, text: str) -> Iterator[str | None]:
        """Yield the text of each object that ends in `text`, None for each that is damaged."""
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                self._keep(text[at])
                at += 1
                continue
            found = self._pattern().search(text, at)
            end = found.end() if found else len(text)
            if self._open:
                self._keep(text[at:end])
            if found:
                yield from self._step(found.group())
            at = end

    def _pattern(self) -> re.Pattern[str]:
        if not self._open:
            return _OUTSIDE
        return _IN_STRING if self._in_string else _INSIDE

    def _step(self, mark: str) -> Iterator[str | None]:
        if self._in_string:
            yield from self._step_in_string(mark)
        elif mark == '"':
            self._in_string = True
        elif mark in "{[":
            yield from self._step_in(mark)
        else:
            yield from self._step_out(mark)

    def _step_in_string(self, mark: str) -> Iterator[None]:
        if mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_string = False
        else:
            # A line break inside a string is not JSON: a quote is missing on this line.
            self._forget()
            yield None

    def _step_in(self, mark: str) -> Iterator[None]:
        before = self._tail[:-1]
        if mark == "{" and self._open:
            if self._is_wrapper(before):
                self._forget()
            elif self._is_next_object(before):
                self._forget()
                yield None
        if not self._open:
            self._keep(mark)
        self._open += mark
        if len(self._open) > _MAX_DEPTH:
            self._forget()
            yield None

    def _step_out(self, mark: str) -> Iterator[str | None]:
        if _CLOSED_BY[self._open[-1]] != mark:
            self._forget()
            yield None
            return
        self._open = self._open[:-1]
        if not self._open:
            whole = "".join(self._pieces)
            self._forget()
            yield whole

    def _is_wrapper(self, before: str) -> bool:
        listed = _OPENS_LIST.search(before) if self._open.endswith("{[") else None
        return listed is not None and listed.group(1) not in _LISTS_IN_AN_ENTRY

    def _is_next_object(self, before: str) -> bool:
        """Say whether an opening brace here starts another object because this one never ended."""
        if before.endswith("\n"):
            return True
        return self._open.endswith("{") and not before.rstrip().endswith(":")

    def _keep(self, piece: str) -> None:
        self._pieces.append(piece)
        self._tail = (self._tail + piece)[-_TAIL_CHARS:]

    def _forget(self) -> None:
        self._pieces = []
        self._tail = ""
        self._open = ""
        self._in_string = False
        self._escaped = False
