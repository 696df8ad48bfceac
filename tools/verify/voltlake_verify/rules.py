"""The rules of silver, after docs/RULES.md: what a record's bytes say, and which rule they break first."""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any, NamedTuple

RULES = (
    "malformed_json",
    "not_an_event",
    "missing_event_id",
    "missing_vehicle_id",
    "invalid_event_time",
    "future_event_time",
    "invalid_battery_percent",
    "battery_out_of_range",
    "invalid_speed_mph",
    "negative_speed",
    "invalid_odometer_miles",
)
CLEAN = -1
CODES = {rule: code for code, rule in enumerate(RULES)}
FUTURE = CODES["future_event_time"]
FUTURE_MICROS = 24 * 3_600_000_000
ID_BYTES_MAX = 256
SIGNALS = ("battery_percent", "speed_mph", "odometer_miles")

_NAN = math.nan
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPACES = " \t\n\v\f\r"
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]+))?)?"
    r"(?:Z|([+-])(?:(0[0-9]|1[0-7])(?::([0-5][0-9]))?|(18)(?::00)?))?"
)
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_DAY_MICROS = 86_400_000_000
_days: dict[str, int | None] = {}


class Number(str):
    """A JSON number, as it was written."""


class Judged(NamedTuple):
    """What a record says. `code` is the first broken rule but `future_event_time`, which needs the time of arrival; CLEAN where none is."""

    code: int
    event_id: str | None
    vehicle_id: str | None
    event_us: int | None
    ingest_us: int | None
    source: Any
    battery: float
    speed: float
    odometer: float


def _not_json(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


_decode = json.JSONDecoder(object_pairs_hook=_first_wins, parse_float=Number, parse_int=Number, parse_constant=_not_json).decode
_decode_all = json.JSONDecoder(object_pairs_hook=lambda pairs: list(pairs), parse_float=Number, parse_int=Number).decode


def _has_surrogate(value: Any) -> bool:
    """Whether any text in it, also of a key, holds half of a surrogate pair."""
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    return isinstance(value, (list, tuple)) and any(_has_surrogate(one) for one in value)


def _rejected(rule: str, event_us: int | None = None) -> Judged:
    return Judged(CODES[rule], None, None, event_us, None, None, _NAN, _NAN, _NAN)


_MALFORMED = _rejected("malformed_json")
_NOT_AN_EVENT = _rejected("not_an_event")
_NO_EVENT_ID = _rejected("missing_event_id")
_NO_VEHICLE_ID = _rejected("missing_vehicle_id")
_NO_TIME = _rejected("invalid_event_time")


def _is_id(value: Any) -> bool:
    return type(value) is str and value != "" and "\0" not in value and (len(value) <= 64 or len(value.encode()) <= ID_BYTES_MAX)


def _day(text: str) -> int | None:
    try:
        return (datetime.date.fromisoformat(text).toordinal() - _EPOCH_DAY) * _DAY_MICROS
    except ValueError:
        return None


def instant(value: Any) -> int | None:
    """Microseconds since 1970 of an instant in extended ISO-8601, or None."""
    match = _INSTANT.fullmatch(value) if type(value) is str else None
    if match is None:
        return None
    date, hour, minute, second, fraction, sign, offset_hour, offset_minute, offset_18 = match.groups()
    if date in _days:
        day = _days[date]
    else:
        day = _days[date] = _day(date)
    if day is None:
        return None
    micros = day + (int(hour) * 3600 + int(minute) * 60 + int(second or 0)) * 1_000_000
    if fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    if sign:
        offset = (int(offset_18 or offset_hour) * 60 + int(offset_minute or 0)) * 60_000_000
        micros += -offset if sign == "+" else offset
    return micros


def _number(value: Any) -> float | None:
    """A finite number, written as one or as text; None for anything else."""
    if type(value) is not Number:
        if type(value) is not str:
            return None
        value = value.strip(_SPACES)
        if _NUMBER.fullmatch(value) is None:
            return None
    number = float(value)
    return number if math.isfinite(number) else None


def _signals(payload: Any) -> tuple[str | None, float, float, float]:
    """The first rule that a signal breaks, and the values."""
    if type(payload) is not dict:
        return None, _NAN, _NAN, _NAN
    battery = speed = odometer = _NAN
    raw = payload.get("battery_percent")
    if raw is not None:
        number = _number(raw)
        if number is None:
            return "invalid_battery_percent", _NAN, _NAN, _NAN
        if number < 0 or number > 100:
            return "battery_out_of_range", _NAN, _NAN, _NAN
        battery = number
    raw = payload.get("speed_mph")
    if raw is not None:
        number = _number(raw)
        if number is None:
            return "invalid_speed_mph", _NAN, _NAN, _NAN
        if number < 0:
            return "negative_speed", _NAN, _NAN, _NAN
        speed = number
    raw = payload.get("odometer_miles")
    if raw is not None:
        number = _number(raw)
        if number is None:
            return "invalid_odometer_miles", _NAN, _NAN, _NAN
        odometer = number
    return None, battery, speed, odometer


def judge(value: bytes | None) -> Judged:
    """What a record's value says, and the first rule that it breaks."""
    if not value:
        return _MALFORMED
    try:
        text = value.decode("utf-8")
        event = _decode(text)
    except ValueError:
        return _MALFORMED
    if ("\\ud" in text or "\\uD" in text) and _has_surrogate(_decode_all(text)):
        return _MALFORMED
    if type(event) is not dict:
        return _NOT_AN_EVENT
    event_id = event.get("event_id")
    if not _is_id(event_id):
        return _NO_EVENT_ID
    vehicle_id = event.get("vehicle_id")
    if not _is_id(vehicle_id):
        return _NO_VEHICLE_ID
    event_us = instant(event.get("event_time"))
    if event_us is None:
        return _NO_TIME
    broken, battery, speed, odometer = _signals(event.get("payload"))
    if broken is not None:
        return _rejected(broken, event_us)
    return Judged(CLEAN, event_id, vehicle_id, event_us, instant(event.get("ingest_time")), event.get("source"), battery, speed, odometer)
