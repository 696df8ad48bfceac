"""
Rows as text that is the same from every engine, by what the values are in Python:

numbers as they are, those of floating point with six decimals · times in microseconds · bytes in hexadecimal · text and UUIDs in quotes · lists in
brackets · structs and maps in braces, by their keys' text. A row is a struct.
"""
import datetime
import decimal
import hashlib
import math
import uuid

FIRST = 20
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)


def text(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.6f}"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (str, uuid.UUID)):
        return f'"{value}"'
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime):
        utc = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return str((utc - EPOCH) // MICROSECOND)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return str((datetime.datetime.combine(EPOCH.date(), value) - EPOCH) // MICROSECOND)
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{text(key)}:{text(one)}" for key, one in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text(one) for one in value) + "]"
    raise TypeError(f"{type(value).__name__} has no text")


def of_rows(rows):
    """Of rows as dictionaries."""
    lines = sorted(text(row) for row in rows)
    return {
        "count": len(lines),
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "first": lines[:FIRST],
    }
