"""`run.mjs --module damage NAME`: does one thing to the lake that a healthy one never shows, for the verifier's tests. Writes valid Iceberg by PyIceberg."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, EqualTo
from pyiceberg.table import Table

from voltlake_verify.settings import from_environment
from voltlake_verify.tables import open_catalog

BRONZE, CLEAN, REJECTED = "bronze.telemetry_raw", "silver.telemetry_clean", "silver.telemetry_rejected"


def _some_row(table: Table) -> tuple[pa.Table, BooleanExpression]:
    """A row, and the filter that meets it alone."""
    row = table.scan(limit=1).to_arrow()
    place = row.select(["partition", "offset"]).to_pylist()[0]
    return row, And(EqualTo("partition", place["partition"]), EqualTo("offset", place["offset"]))


def _delete(table: Table) -> None:
    table.delete(_some_row(table)[1])


def _copy(table: Table) -> None:
    table.append(_some_row(table)[0])


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Table], None]:
    def apply(table: Table) -> None:
        row, place = _some_row(table)
        field = row.schema.field(name)
        changed = pa.array([change(row.column(name)[0].as_py())], field.type)
        table.overwrite(row.set_column(row.schema.get_field_index(name), field, changed), overwrite_filter=place)

    return apply


DAMAGES: dict[str, tuple[str, Callable[[Table], None]]] = {
    "bronze-delete": (BRONZE, _delete),
    "bronze-copy": (BRONZE, _copy),
    "bronze-byte": (BRONZE, _change("value", lambda value: bytes([value[0] ^ 1]) + value[1:])),
    "bronze-header": (BRONZE, _change("headers", lambda headers: headers[:-1])),
    "bronze-offset": (BRONZE, _change("offset", lambda offset: offset + 1_000_000)),
    "clean-delete": (CLEAN, _delete),
    "clean-copy": (CLEAN, _copy),
    "clean-value": (CLEAN, _change("odometer_miles", lambda miles: miles + 1e-9)),
    "clean-time": (CLEAN, _change("event_ts", lambda time: time.replace(microsecond=time.microsecond ^ 1))),
    "rejected-delete": (REJECTED, _delete),
    "rejected-rule": (REJECTED, _change("rule", lambda rule: "negative_speed" if rule != "negative_speed" else "malformed_json")),
}

if __name__ == "__main__":
    name, damage = DAMAGES[sys.argv[1]]
    damage(open_catalog(from_environment()).load_table(name))
