"""Counting what a reader calls characters: extended grapheme clusters, without a Unicode table.

The rules are those of UAX #29 (Unicode 15.1, section 3.1.1), told from `unicodedata` and the
ranges below. Known differences: Indic conjuncts (GB9c), prepended marks (GB9b) and marks newer
than the interpreter's Unicode database are not joined, so a text of them counts more and is
refused first. The other way round only in nonsense: unassigned default-ignorable code points,
and joiners between symbols that Unicode 17 no longer calls pictographs.
"""

import unicodedata

_ZWNJ, _ZWJ = 0x200C, 0x200D
_FLAG_A, _FLAG_Z = 0x1F1E6, 0x1F1FF
_ASCII = 0x80
_MARKS = frozenset({"Mn", "Me", "Mc"})
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Spacing marks that do not join in UAX #29 although their category is Mc.
_LOOSE_MARKS = (
    (0x102B, 0x102C), (0x1038, 0x1038), (0x1062, 0x1064), (0x1067, 0x106D), (0x1083, 0x1083),
    (0x1087, 0x108C), (0x108F, 0x108F), (0x109A, 0x109C), (0x1A61, 0x1A61), (0x1A63, 0x1A64),
    (0xAA7B, 0xAA7B), (0xAA7D, 0xAA7D), (0x11720, 0x11721),
)  # fmt: skip

# Joining code points whose category is not a mark: Thai and Lao vowels, halfwidth voicing,
# skin tones, and the tags that spell a flag's region.
_JOINING = (
    (_ZWNJ, _ZWJ), (0x0E33, 0x0E33), (0x0EB3, 0x0EB3), (0xFF9E, 0xFF9F),
    (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F),
)  # fmt: skip

# Extended_Pictographic, from the Unicode emoji data.
_PICTURES = (
    (0x00A9, 0x00A9), (0x00AE, 0x00AE), (0x203C, 0x203C), (0x2049, 0x2049), (0x2122, 0x2122),
    (0x2139, 0x2139), (0x2194, 0x2199), (0x21A9, 0x21AA), (0x231A, 0x231B), (0x2328, 0x2328),
    (0x2388, 0x2388), (0x23CF, 0x23CF), (0x23E9, 0x23F3), (0x23F8, 0x23FA), (0x24C2, 0x24C2),
    (0x25AA, 0x25AB), (0x25B6, 0x25B6), (0x25C0, 0x25C0), (0x25FB, 0x25FE), (0x2600, 0x2605),
    (0x2607, 0x2612), (0x2614, 0x2685), (0x2690, 0x2705), (0x2708, 0x2712), (0x2714, 0x2714),
    (0x2716, 0x2716), (0x271D, 0x271D), (0x2721, 0x2721), (0x2728, 0x2728), (0x2733, 0x2734),
    (0x2744, 0x2744), (0x2747, 0x2747), (0x274C, 0x274C), (0x274E, 0x274E), (0x2753, 0x2755),
    (0x2757, 0x2757), (0x2763, 0x2767), (0x2795, 0x2797), (0x27A1, 0x27A1), (0x27B0, 0x27B0),
    (0x27BF, 0x27BF), (0x2934, 0x2935), (0x2B05, 0x2B07), (0x2B1B, 0x2B1C), (0x2B50, 0x2B50),
    (0x2B55, 0x2B55), (0x3030, 0x3030), (0x303D, 0x303D), (0x3297, 0x3297), (0x3299, 0x3299),
    (0x1F000, 0x1F0FF), (0x1F10D, 0x1F10F), (0x1F12F, 0x1F12F), (0x1F16C, 0x1F171),
    (0x1F17E, 0x1F17F), (0x1F18E, 0x1F18E), (0x1F191, 0x1F19A), (0x1F1AD, 0x1F1E5),
    (0x1F201, 0x1F20F), (0x1F21A, 0x1F21A), (0x1F22F, 0x1F22F), (0x1F232, 0x1F23A),
    (0x1F23C, 0x1F23F), (0x1F249, 0x1F3FA), (0x1F400, 0x1F53D), (0x1F546, 0x1F64F),
    (0x1F680, 0x1F6FF), (0x1F774, 0x1F77F), (0x1F7D5, 0x1F7FF), (0x1F80C, 0x1F80F),
    (0x1F848, 0x1F84F), (0x1F85A, 0x1F85F), (0x1F888, 0x1F88F), (0x1F8AE, 0x1F8FF),
    (0x1F90C, 0x1F93A), (0x1F93C, 0x1F945), (0x1F947, 0x1FAFF), (0x1FC00, 0x1FFFD),
)  # fmt: skip


def grapheme_count(text: str) -> int:
    """Return how many characters a reader sees in a text; never more than its code points."""
    if text.isascii():
        return len(text) - text.count("\r\n")
    count, before, flags, picture = 0, -1, 0, False
    for code in map(ord, text):
        if before < 0 or _breaks(before, code, flags=flags, picture=picture):
            count += 1
        flags = flags + 1 if _is_flag(code) else 0
        picture = _within(_PICTURES, code) or (picture and _extends(code))
        before = code
    return count


def _breaks(before: int, code: int, *, flags: int, picture: bool) -> bool:
    """Say whether a cluster ends between two code points.

    `flags` counts the regional indicators up to `before`; `picture` says that `before` ends a
    pictograph and the marks on it, so that a joiner may bind the next one.
    """
    if before < _ASCII and code < _ASCII:
        return (before, code) != (0x0D, 0x0A)
    if _is_control(before) or _is_control(code):
        return True
    if _joins(code) or _is_syllable(before, code):
        return False
    if before == _ZWJ and picture and _within(_PICTURES, code):
        return False
    return not (_is_flag(code) and flags % 2 == 1)


def _joins(code: int) -> bool:
    """Say whether a code point belongs to the cluster before it (Extend, ZWJ, SpacingMark)."""
    if _within(_JOINING, code):
        return True
    return unicodedata.category(chr(code)) in _MARKS and not _within(_LOOSE_MARKS, code)


def _extends(code: int) -> bool:
    """Say whether a code point keeps a pictograph open for a joiner (Extend and ZWJ only)."""
    return _joins(code) and unicodedata.category(chr(code)) not in {"Mc", "Lo"}


def _is_control(code: int) -> bool:
    return unicodedata.category(chr(code)) in _CONTROLS and not _within(_JOINING, code)


def _is_flag(code: int) -> bool:
    return _FLAG_A <= code <= _FLAG_Z


def _is_syllable(before: int, code: int) -> bool:
    """Say whether two code points are jamo of one Hangul syllable."""
    first, second = _jamo(before), _jamo(code)
    if first == "L":
        return second in {"L", "V", "LV", "LVT"}
    if first in {"V", "LV"}:
        return second in {"V", "T"}
    return first in {"T", "LVT"} and second == "T"


_JAMO = (
    ("L", 0x1100, 0x115F), ("V", 0x1160, 0x11A7), ("T", 0x11A8, 0x11FF),
    ("L", 0xA960, 0xA97C), ("V", 0xD7B0, 0xD7C6), ("T", 0xD7CB, 0xD7FB),
)  # fmt: skip
_SYLLABLES, _TAILS = (0xAC00, 0xD7A3), 28


def _jamo(code: int) -> str | None:
    """Return the Hangul syllable type of a code point, None for anything else."""
    if _SYLLABLES[0] <= code <= _SYLLABLES[1]:
        return "LV" if (code - _SYLLABLES[0]) % _TAILS == 0 else "LVT"
    return next((kind for kind, low, high in _JAMO if low <= code <= high), None)


def _within(ranges: tuple[tuple[int, int], ...], code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)
