"""Every refusal as application/problem+json (RFC 9457) that names the field."""

from __future__ import annotations

import dataclasses
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

CONTENT_TYPE = b"application/problem+json"
MOST_ERRORS = 10  # enough to mend a request; a body of a thousand bad events need not come back whole


@dataclasses.dataclass
class Refusal(Exception):
    """A request that is answered with `status` and a problem body."""

    status: int
    detail: str
    field: str | None = None
    errors: list[dict[str, str]] | None = None
    headers: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)

    def body(self) -> bytes:
        """The problem as JSON; ASCII only, so that nothing a caller sent can make it unwritable."""
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            problem["field"] = self.field
        if self.errors:
            problem["errors"] = self.errors
        return json.dumps(problem).encode()


def field_path(loc: tuple[int | str, ...]) -> str:
    """("user", "history", 2, "event") -> user.history[2].event."""
    inside = _inside(loc)
    if inside:
        loc = loc[: len(loc) - inside]  # there pydantic names the branches of a union
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _inside(loc: tuple[int | str, ...]) -> int:
    """How many parts of a place are inside a value of a shopper's profile, or inside a filter."""
    own = loc[2:] if loc[:1] == ("searches",) else loc
    if own[:2] == ("user", "profile"):
        return max(0, len(own) - 3)
    return max(0, len(own) - 2) if own[:1] == ("filters",) else 0


def _say(error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown field; /docs lists the known ones"
    if _inside(error["loc"]):
        if "filters" in error["loc"][:3]:
            return "give a value, a list of values, or min and max"
        return "must be a string, a finite number, true, false or null"
    if kind == "missing":
        return "this field is required"
    if kind == "string_pattern_mismatch":
        named = error["loc"] == ("arm",)
        return "may hold letters, digits, . _ and -" if named else "must not contain the NUL character"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def from_validation(error: ValidationError) -> Refusal:
    """400 for what is not JSON, 422 for JSON that breaks the schema."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}", "body")
    errors: dict[str, str] = {}
    for one in found[:MOST_ERRORS]:
        errors.setdefault(field_path(one["loc"]) or "body", _say(one))
    first, detail = next(iter(errors.items()))
    listed = [{"field": name, "detail": text} for name, text in errors.items()]
    return Refusal(422, f"{first}: {detail}", first, listed if len(listed) > 1 else None)
