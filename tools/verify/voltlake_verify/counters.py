"""The counters that commits carry, against what is there."""

from __future__ import annotations

import numpy as np

from .records import Records
from .report import Report
from .rules import CLEAN
from .silver import Part
from .tables import Progress


def _expect(report: Report, key: str, equation: str, found: int, expected: int) -> None:
    report.compared("counters", 1)
    if found != expected:
        report.problem("counters", f"{equation}: {found} instead of {expected}", partition=key)


def _adds_up(report: Report, table: str, progress: Progress) -> None:
    for key, c in progress.items():
        accounted = c["rows"] + c["skipped"] + c["lost"] + c["rejected"] + c["duplicates"]
        _expect(report, key, f"{table}: rows + rejected + duplicates + skipped + lost = position - start", accounted, c["position"] - c["start"])


def check_bronze(report: Report, progress: Progress, rows: dict[str, int], events: dict[str, list[Records]]) -> None:
    """Bronze's counters against its rows, and against the log where that still holds all."""
    _adds_up(report, "bronze", progress)
    for key in sorted({*progress, *rows}):
        counters = progress.get(key)
        _expect(report, key, "bronze: counter rows = rows", counters["rows"] if counters else 0, rows.get(key, 0))
        # The log's own records come last; those that only bronze holds have no end.
        log = events.get(key, [])[-1:]
        if counters is None or not log or log[0].end == 0:
            continue
        if counters["position"] > log[0].end:
            report.problem("counters", f"bronze is at offset {counters['position']}, the log ends at {log[0].end}", partition=key)
        elif log[0].first <= counters["start"]:
            held = int(np.searchsorted(log[0].offset, counters["position"]) - np.searchsorted(log[0].offset, counters["start"]))
            _expect(report, key, "bronze: counter skipped = offsets without a record", counters["skipped"], counters["position"] - counters["start"] - held)
            _expect(report, key, "bronze: counter lost", counters["lost"], 0)


def check_silver(
    report: Report, clean: Progress, rejected: Progress, bronze: Progress, clean_rows: dict[str, int], rejected_rows: dict[str, int], parts: list[Part]
) -> None:
    """Silver's counters against its rows, its other table's, and bronze's."""
    _adds_up(report, "silver", clean)
    if clean != rejected:
        report.problem("counters", "telemetry_clean and telemetry_rejected have different counters")
    for key in sorted({*clean, *clean_rows, *rejected_rows}):
        counters = clean.get(key, {})
        _expect(report, key, "silver: counter rows = clean rows", counters.get("rows", 0), clean_rows.get(key, 0))
        _expect(report, key, "silver: counter rejected = rejected rows", counters.get("rejected", 0), rejected_rows.get(key, 0))
        copies = sum(int(((p.records.code == CLEAN) & p.reached & ~p.is_clean).sum()) for p in parts if p.key == key)
        _expect(report, key, "silver: counter duplicates = copies", counters.get("duplicates", 0), copies)
        upstream = bronze.get(key)
        if upstream is not None and counters and upstream["position"] == counters["position"]:
            _expect(report, key, "silver: counter skipped = bronze's skipped + lost", counters["skipped"], upstream["skipped"] + upstream["lost"])


def check_gold(report: Report, progress: Progress, parts: list[Part]) -> None:
    """Gold's counters against silver's rows below its position."""
    _adds_up(report, "gold", progress)
    for key, counters in progress.items():
        rows = sum(int((p.is_clean & (p.records.offset < counters["position"])).sum()) for p in parts if p.key == key)
        _expect(report, key, "gold: counter rows = clean rows below its position", counters["rows"], rows)
