"""Silver against what the records say: each is clean, rejected by the first rule it breaks, or a copy of one that is clean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .records import NO_TIME, Records
from .report import Report
from .rules import CLEAN, RULES, SIGNALS
from .tables import CommitOrder, LakeTable, column, differing, numbers

CLEAN_COLUMNS = ("topic", "partition", "offset", "event_id", "vehicle_id", "event_ts", "ingest_ts", "source", *SIGNALS)
REJECTED_COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "rule")


@dataclass
class Part:
    """Records of one partition below silver's position, and which of them silver has as clean."""

    key: str
    records: Records
    reached: np.ndarray
    is_clean: np.ndarray


def _rule(code: int) -> str:
    return "none" if code == CLEAN else RULES[code]


def _place(report: Report, table: str, key: str, rows: pa.Table, parts: list[Part]) -> list[tuple[Part, np.ndarray, pa.Table]]:
    """Rows beside the records at their offsets. Reports those without one, and those of an offset that is there twice."""
    offsets = numbers(rows, "offset")
    report.compared(f"{table} duplicates", len(offsets))
    repeated = np.unique(offsets[1:][offsets[1:] == offsets[:-1]])
    report.problems_at(f"{table} duplicates", "the offset is there more than once", key, repeated)
    left = np.ones(len(offsets), bool)
    placed = []
    for part in parts:
        at, is_there = part.records.find(offsets)
        is_there &= left
        left &= ~is_there
        present = np.flatnonzero(is_there)
        placed.append((part, at[present], rows.take(pa.array(present))))
    report.problems_at(f"{table} misfiled", "a row at an offset at which there is no record", key, offsets[left])
    return placed


def _as_micros(rows: pa.Table, name: str) -> np.ndarray:
    return pc.fill_null(column(rows, name).cast(pa.int64()), NO_TIME).to_numpy(zero_copy_only=False)


def _check_values(report: Report, key: str, part: Part, at: np.ndarray, rows: pa.Table) -> None:
    """Clean rows against the events."""
    records = part.records
    offsets = records.offset[at]
    report.compared("silver values", len(at))
    take = pa.array(at)
    for name, expected in (("event_id", records.event_id), ("vehicle_id", records.vehicle_id)):
        report.problems_at("silver values", f"{name} is not the event's", key, offsets[differing(column(rows, name), expected.take(take))])
    source = differing(column(rows, "source"), records.source.take(take))
    report.problems_at("silver values", "source is not the event's", key, offsets[source[records.source_known[at[source]]]])
    for name, micros in (("event_ts", records.event_us), ("ingest_ts", records.ingest_us)):
        report.problems_at("silver values", f"{name} is not the event's", key, offsets[_as_micros(rows, name) != micros[at]])
    for name in SIGNALS:
        found = pc.fill_null(column(rows, name), float("nan")).to_numpy(zero_copy_only=False)
        expected = records.signals[name][at]
        wrong = (found != expected) & ~(np.isnan(found) & np.isnan(expected))
        report.problems_at("silver values", f"{name} is not the event's", key, offsets[wrong])


def _check_clean(report: Report, key: str, rows: pa.Table, parts: list[Part]) -> None:
    for part, at, placed in _place(report, "silver clean", key, rows, parts):
        broken = part.records.code[at]
        for code in np.unique(broken[broken != CLEAN]).tolist():
            report.problems_at("silver rules", f"clean, but breaks {_rule(code)}", key, part.records.offset[at[broken == code]])
        part.is_clean[at] = True
        sound = np.flatnonzero(broken == CLEAN)
        _check_values(report, key, part, at[sound], placed.take(pa.array(sound)))


def _check_rejected(report: Report, key: str, rows: pa.Table, parts: list[Part]) -> None:
    for part, at, placed in _place(report, "silver rejected", key, rows, parts):
        records, offsets = part.records, part.records.offset[at]
        report.compared("silver rules", len(at))
        found = column(placed, "rule").to_pylist()
        for row in np.flatnonzero(np.array([rule != _rule(code) for rule, code in zip(found, records.code[at].tolist())], bool)).tolist():
            expected = _rule(int(records.code[at[row]]))
            report.problem("silver rules", f"rejected by {found[row]}, should be {expected}", partition=key, offset=int(offsets[row]))
        report.compared("silver rejected bytes", len(at))
        for name, expected_bytes in (("key", records.key), ("value", records.value)):
            wrong = differing(column(placed, name), expected_bytes.take(pa.array(at)))
            report.problems_at("silver rejected bytes", f"the {name} is not the record's", key, offsets[wrong])
        moved = numbers(placed, "timestamp") != records.timestamp_us[at]
        report.problems_at("silver rejected bytes", "the timestamp is not the record's", key, offsets[moved])
        is_rejected = np.zeros(len(records), bool)
        is_rejected[at] = True
        missing = (records.code != CLEAN) & part.reached & ~is_rejected & ~part.is_clean
        report.problems_at("silver accounts", "breaks a rule, and is neither rejected nor clean", key, records.offset[missing])


def _check_copies(report: Report, parts: list[Part], order: CommitOrder) -> None:
    """Of all records with one (vehicle_id, event_id) exactly one is clean: of those first committed the one with the smallest place."""
    sound = [np.flatnonzero((part.records.code == CLEAN) & (part.reached | part.is_clean)) for part in parts]
    report.compared("silver accounts", sum(len(part.records) for part in parts))
    if sum(map(len, sound)) == 0:
        return
    pairs = [
        pc.binary_join_element_wise(part.records.vehicle_id.take(pa.array(at)), part.records.event_id.take(pa.array(at)), pa.scalar("\0", pa.large_string()))
        for part, at in zip(parts, sound)
    ]
    event = np.concatenate([chunk.indices.to_numpy() for chunk in pa.chunked_array(pairs).dictionary_encode().unify_dictionaries().chunks])
    ranks = {key: rank for rank, key in enumerate(sorted({part.key for part in parts}, key=lambda key: (key.rpartition("-")[0], int(key.rpartition("-")[2]))))}
    place = np.concatenate([np.full(len(at), ranks[part.key]) for part, at in zip(parts, sound)])
    offset = np.concatenate([part.records.offset[at] for part, at in zip(parts, sound)])
    commit = np.concatenate([order.of(part.key, part.records.offset[at]) for part, at in zip(parts, sound)])
    clean = np.concatenate([part.is_clean[at] for part, at in zip(parts, sound)])

    kept = np.bincount(event, weights=clean)
    names = {rank: key for key, rank in ranks.items()}
    for index in np.flatnonzero(kept[event] > 1)[np.unique(event[kept[event] > 1], return_index=True)[1]].tolist() if (kept > 1).any() else []:
        report.problem("silver keys", f"the event is clean {int(kept[event[index]])} times", partition=names[int(place[index])], offset=int(offset[index]))
    lost = np.flatnonzero((kept == 0)[event])
    for rank in np.unique(place[lost]).tolist():
        report.problems_at("silver accounts", "no rule is broken, and no record of this event is clean", names[rank], offset[lost[place[lost] == rank]])
    report.compared("silver keys", len(kept))

    by_event = np.lexsort((offset, place, commit, event))
    is_first = np.ones(len(event), bool)
    is_first[1:] = event[by_event][1:] != event[by_event][:-1]
    first = by_event[is_first]
    # Commit 0: before the history that is kept, so any of its copies may have come first.
    wrong = first[~clean[first] & (kept[event[first]] == 1) & (commit[first] > 0)]
    for index in wrong.tolist():
        report.problem("silver first copies", "a later copy of this event is clean", partition=names[int(place[index])], offset=int(offset[index]))
    report.compared("silver first copies", int((commit[first] > 0).sum()))


def check(report: Report, clean: LakeTable, rejected: LakeTable, events: dict[str, list[Records]], *, running: bool) -> list[Part]:
    """Reports what differs. Answers the records with what silver has of them, for gold to be judged by."""
    clean_rows, rejected_rows = clean.read(), rejected.read()
    everything: list[Part] = []
    for key in sorted({*events, *clean_rows.indexes, *rejected_rows.indexes}):
        position = clean.progress.get(key, {}).get("position", 0)
        parts = [Part(key, records, records.offset < position, np.zeros(len(records), bool)) for records in events.get(key, [])]
        _check_clean(report, key, clean_rows.take(key), parts)
        _check_rejected(report, key, rejected_rows.take(key), parts)
        if not running:
            for part in parts:
                report.problems_at("caught up", "silver has not read the record yet", key, part.records.offset[~part.reached])
        everything += parts
    _check_copies(report, everything, CommitOrder(clean.table))
    return everything
