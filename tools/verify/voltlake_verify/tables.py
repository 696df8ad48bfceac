"""Reads the lake's tables with PyIceberg, and the counters that their commits carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from .settings import Settings

PROGRESS = "voltlake.progress"
LINEAGE = "voltlake.log"
COUNTERS = ("start", "position", "rows", "skipped", "lost", "rejected", "duplicates")

Progress = dict[str, dict[str, int]]


def parse_progress(text: str) -> Progress:
    """By `topic-partition`; counters are texts in JSON."""
    return {key: {name: int(counters[name]) for name in COUNTERS} for key, counters in json.loads(text).items()}


def open_catalog(settings: Settings) -> SqlCatalog:
    """The catalog in PostgreSQL; nothing is made in it."""
    return SqlCatalog("lakehouse", uri=settings.sqlalchemy_url, init_catalog_tables="false", **settings.s3)


@dataclass
class LakeTable:
    """A table as it was when it was looked up, with its counters; its rows are read when they are asked for."""

    name: str
    table: Table
    columns: tuple[str, ...]
    progress: Progress
    #: Rows by `topic-partition`, once they were read.
    counts: dict[str, int]

    def read(self) -> Partitions:
        """All rows; of a table without a snapshot none."""
        scan = self.table.scan(selected_fields=self.columns)
        rows = scan.to_arrow() if self.table.current_snapshot() is not None else scan.projection().as_arrow().empty_table()
        partitions = Partitions(rows)
        self.counts = {key: len(at) for key, at in partitions.indexes.items()}
        return partitions

    def summary_entry(self, key: str) -> str | None:
        """Of the nearest snapshot, from the current one back, that has it."""
        return next((text for snapshot in ancestors(self.table) if (text := entry(snapshot, key)) is not None), None)


def entry(snapshot: Snapshot, key: str) -> str | None:
    """One entry of a snapshot's summary."""
    return snapshot.summary.additional_properties.get(key) if snapshot.summary else None


def ancestors(table: Table) -> Iterator[Snapshot]:
    """The current snapshot and those before it, as far as they are kept."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None


def load(catalog: SqlCatalog, name: str, columns: tuple[str, ...]) -> LakeTable:
    """Looks a table up."""
    found = LakeTable(name, catalog.load_table(name), columns, {}, {})
    text = found.summary_entry(PROGRESS)
    found.progress = parse_progress(text) if text is not None else {}
    return found


class CommitOrder:
    """Which commit a record came into a table with: the greater the later, 0 where the history no longer tells."""

    def __init__(self, table: Table) -> None:
        texts = [text for snapshot in ancestors(table) if (text := entry(snapshot, PROGRESS)) is not None]
        self._steps: dict[str, list[tuple[int, int]]] = {}
        oldest = next(reversed(list(ancestors(table))), None)
        #: Whether even the table's first commit is among those kept.
        self.is_whole = oldest is not None and oldest.parent_snapshot_id is None
        for number, text in enumerate(reversed(texts)):
            for key, counters in parse_progress(text).items():
                steps = self._steps.setdefault(key, [])
                if not steps or counters["position"] > steps[-1][0]:
                    steps.append((counters["position"], number + (1 if self.is_whole else 0)))

    def of(self, key: str, offsets: np.ndarray) -> np.ndarray:
        """The commit of each offset of a partition."""
        steps = self._steps.get(key, [])
        if not steps:
            return np.zeros(len(offsets), np.int64)
        positions = np.array([position for position, _ in steps])
        numbers = np.array([number for _, number in steps])
        return numbers[np.minimum(np.searchsorted(positions, offsets, side="right"), len(steps) - 1)]


def large(rows: pa.Table) -> pa.Table:
    """With 64-bit offsets into texts and bytes, so that no column is too big for one array."""
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    schema = pa.schema([pa.field(field.name, wide.get(field.type, field.type)) for field in rows.schema])
    return rows.cast(schema)


class Partitions:
    """Rows by `topic-partition`, each in the order of its offsets, copied when they are asked for: one partition's at a time."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self.indexes: dict[str, np.ndarray] = {}
        topics = pc.unique(rows.column("topic")).to_pylist()
        topic_index = pc.index_in(rows.column("topic"), pa.array(topics, rows.schema.field("topic").type)).to_numpy()
        partition = rows.column("partition").to_numpy()
        offset = rows.column("offset").to_numpy()
        for index, topic in enumerate(topics):
            for number in np.unique(partition[topic_index == index]):
                at = np.flatnonzero((topic_index == index) & (partition == number))
                self.indexes[f"{topic}-{number}"] = at[np.argsort(offset[at], kind="stable")]

    def take(self, key: str) -> pa.Table:
        """The rows of one partition; none of one that is not there."""
        at = self.indexes.get(key, np.zeros(0, np.int64))
        return large(self._rows.take(pa.array(at))).combine_chunks()


def column(rows: pa.Table, name: str) -> pa.Array:
    """A column as one array."""
    chunked = rows.column(name)
    return chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)


def numbers(rows: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as numbers; instants as microseconds."""
    values = column(rows, name)
    return (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_numpy(zero_copy_only=False)


def differing(found: pa.Array, expected: pa.Array) -> np.ndarray:
    """Indexes at which two arrays differ; nulls are equal to each other and to nothing else."""
    same = pc.fill_null(pc.equal(found, expected), False)
    both_null = pc.and_(pc.is_null(found), pc.is_null(expected))
    return np.flatnonzero(pc.invert(pc.or_(same, both_null)).to_numpy(zero_copy_only=False))
