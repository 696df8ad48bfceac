"""Gold against a recomputation from silver's events: exact sums, counts, extremes, and the latest values."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from .report import Report
from .rules import CLEAN, SIGNALS
from .silver import Part
from .tables import Progress, parse_progress

_MINUTE = 60_000_000
#: Sums of so great speeds are made one by one: they and their sums would not fit 64-bit integers.
_SMALL = 1e6
#: From here on speeds are left out of sums and averages; below they are summed as decimals of six digits.
_SUMMABLE = 1e15
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)

_MINUTES = """
SELECT {vehicle} AS vehicle_id, (extract(epoch FROM minute_ts) * 1000000)::bigint AS minute_us, {events} AS events, speed_count,
  trim_scale(speed_sum * 1000000)::text AS speed_micros, avg_speed_mph{suffix} AS average, {fastest} AS max_speed,
  min_battery_percent{suffix} AS min_battery
FROM {table}, lake.gold_progress
WHERE minutes_from IS NULL OR minute_ts >= timestamp 'epoch' + minutes_from * interval '1 day'"""
_VEHICLE_MINUTES = _MINUTES.format(
    vehicle="vehicle_id", events="event_count", suffix="", fastest="max_speed_mph", table="gold_vehicle_minute_metrics"
)
_FLEET_MINUTES = _MINUTES.format(
    vehicle="''", events="total_events", suffix="_fleet", fastest="NULL", table="gold_fleet_minute_metrics"
)
_LATEST = """
SELECT vehicle_id, signal, value, (extract(epoch FROM event_ts) * 1000000)::bigint AS event_us, topic || '-' || partition AS key, "offset"
FROM vehicle_signal_latest"""
_MINUTE_TYPES = {
    "vehicle_id": pa.large_string(), "minute_us": pa.int64(), "events": pa.int64(), "speed_count": pa.int64(), "speed_micros": pa.string(),
    "average": pa.float64(), "max_speed": pa.float64(), "min_battery": pa.float64(),
}
_LATEST_TYPES = {
    "vehicle_id": pa.large_string(), "signal": pa.string(), "value": pa.float64(), "event_us": pa.int64(), "key": pa.string(), "offset": pa.int64(),
}


@dataclass
class Gold:
    """What PostgreSQL holds, all of one moment."""

    progress: Progress
    #: The first day (since 1970) of which minutes are kept; None: all.
    minutes_from: int | None
    vehicle_minutes: pa.Table
    fleet_minutes: pa.Table
    latest: pa.Table


def _query(cursor: Any, query: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    buffer = io.BytesIO()
    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)", buffer)
    buffer.seek(0)
    convert = csv.ConvertOptions(column_types=dict(types), strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    return csv.read_csv(buffer, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=convert)


def read(postgres_url: str) -> Gold:
    """Reads gold in one transaction, so that rows and progress belong together."""
    connection = psycopg2.connect(postgres_url)
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT progress, minutes_from FROM lake.gold_progress")
            progress, minutes_from = cursor.fetchone()
            return Gold(
                parse_progress(progress),
                minutes_from,
                _query(cursor, _VEHICLE_MINUTES, _MINUTE_TYPES),
                _query(cursor, _FLEET_MINUTES, _MINUTE_TYPES),
                _query(cursor, _LATEST, _LATEST_TYPES),
            )
    finally:
        connection.close()


def speed_micros(speed: float) -> tuple[Decimal, Decimal]:
    """Least and greatest millionths that a speed may count for. They differ only where six digits cut it in the middle."""
    exact = _EXACT.multiply(Decimal(speed), 1_000_000)
    doubt = Decimal(1e-9 + math.ulp(speed * 1e6))
    floor = [_EXACT.add(exact, shift).to_integral_value("ROUND_FLOOR") for shift in (Decimal("0.5") - doubt, Decimal("0.5") + doubt)]
    return floor[0], floor[1]


@dataclass
class _Events:
    """Silver's events below gold's position, as columns."""

    vehicle: pa.Array
    event_us: np.ndarray
    key: np.ndarray
    offset: np.ndarray
    signals: dict[str, np.ndarray]


def _events(parts: list[Part], progress: Progress) -> _Events:
    chosen = [
        np.flatnonzero(part.is_clean & (part.records.code == CLEAN) & (part.records.offset < progress.get(part.key, {}).get("position", 0)))
        for part in parts
    ]
    chunks = [part.records.vehicle_id.take(pa.array(at)) for part, at in zip(parts, chosen)]

    def joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *arrays])

    return _Events(
        vehicle=pa.concat_arrays([pa.array([], pa.large_string()), *chunks]),
        event_us=joined([part.records.event_us[at] for part, at in zip(parts, chosen)], np.int64),
        key=np.concatenate([np.zeros(0, np.int64), *(np.full(len(at), index) for index, at in enumerate(chosen))]),
        offset=joined([part.records.offset[at] for part, at in zip(parts, chosen)], np.int64),
        signals={name: joined([part.records.signals[name][at] for part, at in zip(parts, chosen)], np.float64) for name in SIGNALS},
    )


@dataclass
class _Minute:
    events: int
    speeds: int
    least: Decimal
    greatest: Decimal
    max_speed: float
    min_battery: float


def _minutes(events: _Events, vehicles: np.ndarray, names: list[str]) -> dict[tuple[str, int], _Minute]:
    """By (vehicle, minute): what gold must hold."""
    count = len(vehicles)
    if count == 0:
        return {}
    minute = events.event_us // _MINUTE * _MINUTE
    order = np.lexsort((minute, vehicles))
    vehicles, minute = vehicles[order], minute[order]
    starts = np.flatnonzero(np.concatenate([[True], (vehicles[1:] != vehicles[:-1]) | (minute[1:] != minute[:-1])]))
    speed, battery = events.signals["speed_mph"][order], events.signals["battery_percent"][order]
    has_speed = ~np.isnan(speed) & (speed < _SUMMABLE)
    small = np.where(has_speed & (speed < _SMALL), speed, 0.0)
    millionths, doubt = small * 1e6, 1e-9 + np.spacing(small * 1e6)
    sums = [np.add.reduceat(np.floor(millionths + 0.5 + shift).astype(np.int64), starts).tolist() for shift in (-doubt, doubt)]
    found = [
        _Minute(events, speeds, Decimal(least), Decimal(greatest), fastest, lowest)
        for events, speeds, least, greatest, fastest, lowest in zip(
            np.diff(np.append(starts, count)).tolist(),
            np.add.reduceat(has_speed.astype(np.int64), starts).tolist(),
            *sums,
            np.fmax.reduceat(speed, starts).tolist(),
            np.fmin.reduceat(battery, starts).tolist(),
        )
    ]
    for row in np.flatnonzero(has_speed & (speed >= _SMALL)).tolist():
        group = found[int(np.searchsorted(starts, row, side="right")) - 1]
        least, greatest = speed_micros(float(speed[row]))
        group.least, group.greatest = _EXACT.add(group.least, least), _EXACT.add(group.greatest, greatest)
    return {(names[v], m): one for v, m, one in zip(vehicles[starts].tolist(), minute[starts].tolist(), found)}


def _same(found: float | None, expected: float) -> bool:
    return math.isnan(expected) if found is None else found == expected


def _wrong(row: dict[str, Any], expected: _Minute, *, has_max: bool) -> list[str]:
    """Which columns of a minute differ."""
    micros = Decimal(row["speed_micros"])
    average = None if expected.speeds == 0 else float(_EXACT.divide(micros, Decimal(expected.speeds * 1_000_000)))
    holds = {
        "event count": row["events"] == expected.events,
        "speed count": row["speed_count"] == expected.speeds,
        "sum of speeds": expected.least <= micros <= expected.greatest,
        "average": row["average"] is average if average is None or row["average"] is None else math.isclose(row["average"], average, rel_tol=1e-12),
        "greatest speed": not has_max or _same(row["max_speed"], expected.max_speed),
        "least battery": _same(row["min_battery"], expected.min_battery),
    }
    return [name for name, is_so in holds.items() if not is_so]


def _check_minutes(report: Report, check: str, rows: pa.Table, expected: dict[tuple[str, int], _Minute], *, has_max: bool) -> None:
    report.compared(check, max(rows.num_rows, len(expected)))
    for batch in rows.to_batches(max_chunksize=50_000):
        for row in batch.to_pylist():
            key = (row["vehicle_id"] or "", row["minute_us"])
            minute = expected.pop(key, None)
            where = {"vehicle": key[0], "minute_us": key[1]} if has_max else {"minute_us": key[1]}
            if minute is None:
                report.problem(check, "silver has no event in this minute", **where)
                continue
            wrong = _wrong(row, minute, has_max=has_max)
            if wrong:
                report.problem(check, f"{', '.join(wrong)} differ from a recomputation", **where)
    for vehicle, minute_us in expected:
        report.problem(check, "the minute is missing", vehicle=vehicle, minute_us=minute_us)


def _check_latest(report: Report, latest: pa.Table, events: _Events, vehicles: np.ndarray, names: list[str], parts: list[Part]) -> None:
    """Per vehicle and signal the value of the greatest (event_ts, topic, partition, offset)."""
    by_key = sorted({part.key for part in parts}, key=lambda key: (key.rpartition("-")[0], int(key.rpartition("-")[2])))
    rank = np.array([by_key.index(part.key) for part in parts] or [0])[events.key] if len(events.key) else events.key
    expected: dict[tuple[str, str], tuple[float, int, str, int]] = {}
    for name in SIGNALS:
        at = np.flatnonzero(~np.isnan(events.signals[name]))
        at = at[np.lexsort((events.offset[at], rank[at], events.event_us[at], vehicles[at]))]
        last = at[np.concatenate([vehicles[at][1:] != vehicles[at][:-1], [True]])] if len(at) else at
        for index in last.tolist():
            value = float(events.signals[name][index])
            expected[names[vehicles[index]], name] = (value, int(events.event_us[index]), by_key[rank[index]], int(events.offset[index]))
    report.compared("gold latest", max(latest.num_rows, len(expected)))
    for row in latest.to_pylist():
        found = (row["value"], row["event_us"], row["key"], row["offset"])
        if expected.pop((row["vehicle_id"], row["signal"]), None) != found:
            report.problem("gold latest", "not the latest value", vehicle=row["vehicle_id"], signal=row["signal"])
    for vehicle, signal in expected:
        report.problem("gold latest", "the latest value is missing", vehicle=vehicle, signal=signal)


def check(report: Report, gold: Gold, parts: list[Part], silver: Progress, *, running: bool) -> None:
    """Reports what differs from silver's events below gold's position."""
    events = _events(parts, gold.progress)
    encoded = pc.dictionary_encode(events.vehicle)
    vehicles, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()

    def kept(minutes: dict[tuple[str, int], _Minute]) -> dict[tuple[str, int], _Minute]:
        first = None if gold.minutes_from is None else gold.minutes_from * 1440 * _MINUTE
        return {key: minute for key, minute in minutes.items() if first is None or key[1] >= first}

    _check_minutes(report, "gold vehicle minutes", gold.vehicle_minutes, kept(_minutes(events, vehicles, names)), has_max=True)
    fleet = kept(_minutes(events, np.zeros(len(vehicles), np.int64), [""]))
    _check_minutes(report, "gold fleet minutes", gold.fleet_minutes, fleet, has_max=False)
    _check_latest(report, gold.latest, events, vehicles, names, parts)
    for key, counters in silver.items() if not running else ():
        at = gold.progress.get(key, {}).get("position", counters["start"])
        if at != counters["position"]:
            report.problem("caught up", f"gold is at offset {at}, silver at {counters['position']}", partition=key)
