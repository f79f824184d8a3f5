"""What pydantic found, said so that a person can mend it; the value that was sent is never said.

A validator of ours that wants its own words raises `PydanticCustomError(code, fix)`; both are
shown, so neither may contain the value. What any other exception says is not shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast, get_args

from pydantic import BaseModel
from pydantic_core.core_schema import ErrorType

from cadenza.errors import Mistake
from cadenza.events import camel

MOST_SHOWN = 50
_LONGEST_NAME = 80
_BUILT_IN = frozenset(get_args(ErrorType))

# pydantic's type of error -> code, fix; {words} are bounds that pydantic gives, never the value
FIXES: dict[str, tuple[str, str]] = {
    "missing": ("MISSING", "Add it"),
    "extra_forbidden": ("UNKNOWN_FIELD", "Remove it"),
    "enum": ("NOT_ALLOWED", "Use {expected}"),
    "literal_error": ("NOT_ALLOWED", "Use {expected}"),
    "uuid_type": ("BAD_UUID", "Use a UUID, 8-4-4-4-12 hexadecimal digits"),
    "uuid_parsing": ("BAD_UUID", "Use a UUID, 8-4-4-4-12 hexadecimal digits"),
    "uuid_version": ("BAD_UUID", "Use a UUID of version {expected_version}"),
    "string_type": ("WRONG_TYPE", "Use a string"),
    "string_unicode": ("WRONG_TYPE", "Use a string of valid Unicode"),
    "string_too_short": ("TOO_SHORT", "Use at least {min_length} characters"),
    "string_too_long": ("TOO_LONG", "Use at most {max_length} characters"),
    "string_pattern_mismatch": ("WRONG_FORM", "Use the form {pattern}"),
    "too_short": ("TOO_FEW", "Use at least {min_length} items"),
    "too_long": ("TOO_MANY", "Use at most {max_length} items"),
    "int_type": ("WRONG_TYPE", "Use a whole number"),
    "int_parsing": ("WRONG_TYPE", "Use a whole number"),
    "int_from_float": ("WRONG_TYPE", "Use a whole number"),
    "int_parsing_size": ("OUT_OF_RANGE", "Use a smaller number"),
    "float_type": ("WRONG_TYPE", "Use a number"),
    "float_parsing": ("WRONG_TYPE", "Use a number"),
    "finite_number": ("OUT_OF_RANGE", "Use a finite number"),
    "greater_than": ("OUT_OF_RANGE", "Use more than {gt}"),
    "greater_than_equal": ("OUT_OF_RANGE", "Use {ge} or more"),
    "less_than": ("OUT_OF_RANGE", "Use less than {lt}"),
    "less_than_equal": ("OUT_OF_RANGE", "Use {le} or less"),
    "bool_type": ("WRONG_TYPE", "Use true or false"),
    "bool_parsing": ("WRONG_TYPE", "Use true or false"),
    "list_type": ("WRONG_TYPE", "Use a list"),
    "tuple_type": ("WRONG_TYPE", "Use a list"),
    "dict_type": ("WRONG_TYPE", "Use an object"),
    "model_type": ("WRONG_TYPE", "Use an object"),
    "model_attributes_type": ("WRONG_TYPE", "Use an object"),
    "date_type": ("BAD_DATE", "Use a date such as 2026-12-01"),
    "date_parsing": ("BAD_DATE", "Use a date such as 2026-12-01"),
    "date_from_datetime_parsing": ("BAD_DATE", "Use a date such as 2026-12-01"),
    "date_from_datetime_inexact": ("BAD_DATE", "Use a date without a time, such as 2026-12-01"),
    "time_type": ("BAD_TIME", "Use a wall time such as 09:00"),
    "time_parsing": ("BAD_TIME", "Use a wall time such as 09:00"),
    "datetime_type": ("BAD_INSTANT", "Use an instant such as 2026-12-01T08:00:00Z"),
    "datetime_parsing": ("BAD_INSTANT", "Use an instant such as 2026-12-01T08:00:00Z"),
    "datetime_from_date_parsing": ("BAD_INSTANT", "Use an instant such as 2026-12-01T08:00:00Z"),
    "timezone_aware": ("BAD_INSTANT", "Add the offset, as in 2026-12-01T08:00:00Z"),
    "timezone_naive": ("BAD_TIME", "Use a time without an offset"),
    "url_type": ("BAD_URL", "Use a URL such as https://example.com/"),
    "url_parsing": ("BAD_URL", "Use a URL such as https://example.com/"),
    "url_scheme": ("BAD_URL", "Use a URL that begins with {expected_schemes}"),
}
_OTHERWISE = ("INVALID", "Use a value that this field accepts")
_PHRASES = {
    "MISSING": "is missing",
    "UNKNOWN_FIELD": "is not a field here",
    "NOT_ALLOWED": "is none of the words allowed",
    "WRONG_TYPE": "has the wrong type",
    "BAD_JSON": "is not valid JSON",
    "BAD_UUID": "is not a UUID",
}


def mistakes_in(errors: Sequence[Mapping[str, Any]], body: object) -> list[Mistake]:
    """Return each mistake once, in pydantic's order; `body` is the annotation of the route's body.

    Of a union only the first alternative that failed is told.
    """
    found: dict[str, Mistake] = {}
    for error in errors:
        mistake = _mistake(error, body)
        found.setdefault(mistake.pointer, mistake)
    return list(found.values())


def sentence(mistakes: Sequence[Mistake]) -> str:
    """Return the first mistake as a sentence, and how many more there are."""
    first = mistakes[0]
    phrase = _PHRASES.get(first.code, "cannot be used")
    more = f", and {len(mistakes) - 1} more" if len(mistakes) > 1 else ""
    return f"{first.pointer or 'The body'} {phrase}{more}"


def _mistake(error: Mapping[str, Any], body: object) -> Mistake:
    kind, (source, *path) = str(error["type"]), error["loc"]
    if kind == "json_invalid":
        where = f"at character {path[0]}" if path else "somewhere"
        return Mistake(pointer="", code="BAD_JSON", fix=f"Send valid JSON; it breaks {where}")
    if source != "body":
        code, fix = _advice(kind, error)
        name = [camel(str(path[0]))] if source == "path" else path
        return Mistake(pointer=_pointer(name), code=code, fix=fix)
    if not path and kind != "missing":
        fix = "Send a JSON object, with Content-Type: application/json"
        return Mistake(pointer="", code="WRONG_TYPE", fix=fix)
    known, names = _located(path, body)
    code, fix = _advice(kind, error)
    if kind == "extra_forbidden":
        known, fix = [*known, path[-1]], _instead_of(str(path[-1]), names)
    return Mistake(pointer=_pointer(known), code=code, fix=fix)


def _advice(kind: str, error: Mapping[str, Any]) -> tuple[str, str]:
    if kind not in _BUILT_IN:
        return kind.upper(), str(error["msg"])
    code, fix = FIXES.get(kind, _OTHERWISE)
    return code, fix.format(**error.get("ctx", {}))


def _instead_of(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name[:_LONGEST_NAME], names, n=1)
    if near:
        return f"Use {near[0]}, or remove it"
    return f"Remove it; the fields here are {', '.join(names)}" if names else "Remove it"


def _located(path: Sequence[str | int], annotation: object) -> tuple[list[str | int], list[str]]:
    """Return the path without pydantic's names of union members, and the fields at its end."""
    known: list[str | int] = []
    for part in path:
        fields = _fields(annotation)
        if isinstance(part, int) or part in fields or _has_free_keys(annotation):
            known.append(part)
            annotation = fields.get(str(part), annotation)
    return known, list(_fields(annotation))


def _fields(annotation: object) -> dict[str, object]:
    """Return every field, by its name on the wire, of the models that an annotation admits."""
    return {
        field.alias or name: field.annotation
        for model in _parts(annotation)
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
    }


def _has_free_keys(annotation: object) -> bool:
    return any(part is dict or part is Mapping for part in _parts(annotation))


def _parts(annotation: object) -> Iterator[object]:
    yield getattr(annotation, "__origin__", annotation)
    for inner in cast("tuple[object, ...]", get_args(annotation)):
        yield from _parts(inner)


def _pointer(path: Sequence[str | int]) -> str:
    parts = (str(part)[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{part}" for part in parts)
