"""`python -m voltlake_verify [--json] [--running]`: exit code 0 where all holds, 1 at any problem, 2 where it could not look."""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import KafkaException
from psycopg2 import Error as PostgresError
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy.exc import SQLAlchemyError

from . import acknowledged, bronze, counters, gold, log, silver, tables
from .report import Report
from .settings import Settings, SettingsError, from_environment

# JSON may be nested as deep as a record is long, and is read by recursion.
_DEPTH_MAX = 2_000_000
_STACK_BYTES = 1024 * 1024 * 1024


def run(settings: Settings, *, running: bool, acknowledged_file: Path | None = None) -> Report:
    """Looks at gold first and at the log last, so that no stage seems ahead of the one before it."""
    report = Report()
    held = gold.read(settings.postgres_url)
    catalog = tables.open_catalog(settings)
    clean = tables.load(catalog, "silver.telemetry_clean", silver.CLEAN_COLUMNS)
    rejected = tables.load(catalog, "silver.telemetry_rejected", silver.REJECTED_COLUMNS)
    raw = tables.load(catalog, "bronze.telemetry_raw", bronze.COLUMNS)
    records = log.read(settings.bootstrap_servers, settings.topic)
    report.events = sum(len(partition) for partition in records.values())

    if acknowledged_file is not None:
        acknowledged.check(report, acknowledged_file, records)
    events = bronze.check(report, raw, records, settings.topic, running=running)
    parts = silver.check(report, clean, rejected, events, running=running)
    gold.check(report, held, parts, clean.progress, running=running)
    counters.check_bronze(report, raw.progress, raw.counts, events)
    counters.check_silver(report, clean.progress, rejected.progress, raw.progress, clean.counts, rejected.counts, parts)
    counters.check_gold(report, held.progress, parts)
    return report


def main() -> int:
    """Reads the arguments, verifies, prints."""
    parser = argparse.ArgumentParser(prog="npm run verify --", description="Recomputes the lake from the log's bytes, and compares.")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--running", action="store_true", help="stages may still have records to read")
    parser.add_argument("--acknowledged", type=Path, metavar="FILE", help="batches that producers were told are in the log, a line of JSON each")
    options = parser.parse_args()
    # A million small tuples and no cycle among them.
    gc.disable()
    started = time.monotonic()
    try:
        report = run(from_environment(), running=options.running, acknowledged_file=options.acknowledged)
    except SettingsError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    except (KafkaException, log.LogSilent, NoSuchTableError, PostgresError, SQLAlchemyError, OSError) as error:
        print(f"verify: could not look at everything: {str(error).strip()}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(report.to_text())
    print(f"{report.events} events, {seconds:.1f} s, {memory_mb} MB: {'all holds' if report.ok else 'NOT ALL HOLDS'}")
    if options.json:
        print(json.dumps({**report.to_json(), "seconds": round(seconds, 1), "memoryMb": memory_mb}))
    return 0 if report.ok else 1


def _on_deep_stack() -> int:
    sys.setrecursionlimit(_DEPTH_MAX)
    threading.stack_size(_STACK_BYTES)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main()))
    thread.start()
    thread.join()
    return codes[0] if codes else 2


if __name__ == "__main__":
    try:
        sys.exit(_on_deep_stack())
    except KeyboardInterrupt:
        sys.exit(130)
