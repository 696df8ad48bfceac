"""Bronze against the log: every record that the log holds, once, byte for byte."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .records import NO_TIME, Builder, Headers, Records
from .report import Report
from .tables import LINEAGE, LakeTable, column, differing, numbers

COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers", "ingested_at")
_BLOCK = 20_000


def topic_in_rows(bronze: LakeTable, topic: str) -> str:
    """The topic's name in rows: a later incarnation of the log has a number behind it."""
    text = bronze.summary_entry(LINEAGE)
    incarnation = json.loads(text)["incarnations"].get(topic, 1) if text is not None else 1
    return topic if incarnation == 1 else f"{topic}~{incarnation}"


def _headers(rows: pa.Table) -> dict[int, Headers]:
    """By row: the headers of those rows that have any."""
    lists = column(rows, "headers")
    at = np.flatnonzero(pc.fill_null(pc.greater(pc.list_value_length(lists), 0), False).to_numpy(zero_copy_only=False))
    found: dict[int, Headers] = {}
    distinct: dict[Headers, Headers] = {}
    for start in range(0, len(at), _BLOCK):
        block = at[start : start + _BLOCK]
        for row, own in zip(block.tolist(), lists.take(pa.array(block)).to_pylist()):
            headers = tuple((one["key"], one["value"]) for one in own)
            found[row] = distinct.setdefault(headers, headers)
    return found


def _check_rows(report: Report, key: str, rows: pa.Table, offsets: np.ndarray, log: Records) -> None:
    """Rows of offsets that the log still holds."""
    at, is_there = log.find(offsets)
    report.problems_at("bronze misfiled", "a row at an offset at which the log holds no record", key, offsets[~is_there])
    present = np.flatnonzero(is_there)
    at, offsets, rows = at[present], offsets[present], rows.take(pa.array(present))
    report.compared("bronze misfiled", len(offsets))
    report.compared("bronze bytes", len(offsets))
    moved = numbers(rows, "timestamp") != log.timestamp_us[at]
    report.problems_at("bronze misfiled", "the timestamp is not the record's", key, offsets[moved])
    for name, expected in (("key", log.key), ("value", log.value)):
        wrong = differing(column(rows, name), expected.take(pa.array(at)))
        report.problems_at("bronze bytes", f"the {name} is not the record's", key, offsets[wrong])
    found = _headers(rows)
    with_headers = set(found) | set(np.flatnonzero(np.isin(offsets, np.fromiter(log.headers, np.int64, len(log.headers)))).tolist())
    differs = sorted(row for row in with_headers if found.get(row, ()) != log.headers.get(int(offsets[row]), ()))
    report.problems_at("bronze bytes", "the headers are not the record's", key, offsets[np.array(differs, np.int64)])


def _check_offsets(report: Report, key: str, offsets: np.ndarray, log: Records, position: int | None, *, running: bool) -> None:
    """Which of the log's offsets bronze has, and how often."""
    repeated = np.unique(offsets[1:][offsets[1:] == offsets[:-1]])
    report.compared("bronze duplicates", len(offsets))
    report.problems_at("bronze duplicates", "the offset is there more than once", key, repeated)
    report.compared("bronze gaps", len(log))
    missing = log.offset[~np.isin(log.offset, offsets, assume_unique=False)]
    reached = position if position is not None else log.first
    report.problems_at("bronze gaps", "the record is in the log and not in bronze", key, missing[missing < reached])
    behind = missing[missing >= reached]
    if not running:
        report.problems_at("caught up", "bronze has not read the record yet", key, behind)


def _of_rows(rows: pa.Table) -> Records:
    """Rows that the log no longer holds, as records: what it once said can be had from here alone."""
    builder = Builder()
    for offset, timestamp, record_key, value in zip(
        numbers(rows, "offset").tolist(), numbers(rows, "timestamp").tolist(), column(rows, "key").to_pylist(), column(rows, "value").to_pylist()
    ):
        builder.add(offset, timestamp, record_key, value, None)
    return builder.finish(0, 0)


def check(report: Report, bronze: LakeTable, log: dict[int, Records], topic: str, *, running: bool) -> dict[str, list[Records]]:
    """
    Reports what differs. Answers, by `topic-partition`, the records that silver is to be judged by: the log's, and before them those that only
    bronze holds any more. Each knows its broken rule.
    """
    name = topic_in_rows(bronze, topic)
    logs = {f"{name}-{partition}": records for partition, records in log.items()}
    partitions = bronze.read()
    events: dict[str, list[Records]] = {}
    for key in sorted({*partitions.indexes, *logs}):
        rows, records = partitions.take(key), logs.get(key)
        parts: list[Records] = []
        if records is None and key.rpartition("-")[0] == name:
            report.problems_at("bronze misfiled", "a row of a partition that the topic does not have", key, numbers(rows, "offset"))
        offsets = numbers(rows, "offset")
        only_here = offsets < records.first if records is not None else np.ones(len(offsets), bool)
        if only_here.any():
            at = np.flatnonzero(only_here)
            report.compared("bronze beyond the log", len(at))
            gone = _of_rows(rows.take(pa.array(at)))
            gone.judge_arrival(numbers(rows, "ingested_at")[at])
            parts.append(gone)
        if records is not None:
            held = offsets[~only_here]
            counters = bronze.progress.get(key)
            _check_offsets(report, key, held, records, counters["position"] if counters else None, running=running)
            ingested = np.full(len(records), NO_TIME, np.int64)
            kept = rows.slice(int(only_here.sum()))
            _check_rows(report, key, kept, held, records)
            at, is_there = records.find(held)
            ingested[at[is_there]] = numbers(kept, "ingested_at")[is_there]
            records.judge_arrival(ingested)
            records.forget_clean_values()
            parts.append(records)
        events[key] = parts
    return events
