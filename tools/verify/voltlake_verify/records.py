"""Records of one partition as columns, with what each of them says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from .rules import CLEAN, FUTURE, FUTURE_MICROS, SIGNALS, judge

NO_TIME = np.iinfo(np.int64).min
_BLOCK = 20_000

Headers = tuple[tuple[str, bytes | None], ...]


def times(values: list[int | None]) -> np.ndarray:
    """Microseconds, absent ones as NO_TIME."""
    return np.fromiter((NO_TIME if value is None else value for value in values), np.int64, len(values))


@dataclass
class Records:
    """Sorted by offset. `code` is the broken rule, `rules.CLEAN` where none is."""

    offset: np.ndarray
    timestamp_us: np.ndarray
    key: pa.Array
    value: pa.Array
    code: np.ndarray
    event_id: pa.Array
    vehicle_id: pa.Array
    event_us: np.ndarray
    ingest_us: np.ndarray
    source: pa.Array
    #: Whether `source` is a text or absent; of anything else the rules do not say how it is written.
    source_known: np.ndarray
    signals: dict[str, np.ndarray]
    headers: dict[int, Headers] = field(default_factory=dict)
    #: First offset that the log still holds, and the end of what it holds.
    first: int = 0
    end: int = 0

    def __len__(self) -> int:
        return len(self.offset)

    def find(self, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the record at each offset, and whether there is one."""
        if len(self) == 0:
            return np.zeros(len(offsets), np.int64), np.zeros(len(offsets), bool)
        at = np.minimum(np.searchsorted(self.offset, offsets), len(self) - 1)
        return at, self.offset[at] == offsets

    def judge_arrival(self, ingested_us: np.ndarray) -> None:
        """Applies the rule that needs the time of arrival: it comes after that of the time itself and before those of the signals."""
        known = ingested_us != NO_TIME
        late = self.event_us != NO_TIME
        future = known & late & (self.event_us > np.where(known, ingested_us, 0) + FUTURE_MICROS)
        self.code[future & ((self.code == CLEAN) | (self.code > FUTURE))] = FUTURE

    def forget_clean_values(self) -> None:
        """Keeps the bytes of rejects alone: nobody asks for the others' any more, and they are most of the memory."""
        is_reject = self.code != CLEAN
        at = pa.array(np.cumsum(is_reject) - 1, mask=~is_reject)
        self.value = self.value.filter(pa.array(is_reject)).take(at)


class Builder:
    """Takes records in the order of their offsets. Holds bytes in blocks of Arrow, not as objects."""

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._blocks: list[pa.RecordBatch] = []
        self._headers: dict[int, Headers] = {}
        #: Producers repeat their headers: equal ones are kept once.
        self._distinct: dict[Headers, Headers] = {}

    def add(self, offset: int, timestamp_us: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None) -> None:
        """Adds one record."""
        self._offsets.append(offset)
        self._times.append(timestamp_us)
        self._keys.append(key)
        self._values.append(value)
        if headers:
            own = tuple(headers)
            self._headers[offset] = self._distinct.setdefault(own, own)
        if len(self._offsets) >= _BLOCK:
            self._flush()

    def finish(self, first: int, end: int) -> Records:
        """All of them."""
        self._flush()
        table = pa.Table.from_batches(self._blocks, _SCHEMA).combine_chunks()
        self._blocks = []

        def column(name: str) -> pa.Array:
            chunked = table.column(name)
            return chunked.chunk(0) if chunked.num_chunks else pa.array([], chunked.type)

        def numbers(name: str) -> np.ndarray:
            return np.array(column(name).to_numpy(zero_copy_only=False))

        return Records(
            offset=numbers("offset"),
            timestamp_us=numbers("timestamp_us"),
            key=column("key"),
            value=column("value"),
            code=numbers("code"),
            event_id=column("event_id"),
            vehicle_id=column("vehicle_id"),
            event_us=numbers("event_us"),
            ingest_us=numbers("ingest_us"),
            source=column("source"),
            source_known=numbers("source_known"),
            signals={name: numbers(name) for name in SIGNALS},
            headers=self._headers,
            first=first,
            end=end,
        )

    def _flush(self) -> None:
        judged = [judge(value) for value in self._values]
        code, event_id, vehicle_id, event_us, ingest_us, source, *signals = (list(column) for column in zip(*judged)) if judged else [[]] * 9
        known = [value is None or type(value) is str for value in source]
        columns: list[Any] = [
            pa.array(self._offsets, pa.int64()),
            pa.array(self._times, pa.int64()),
            pa.array(self._keys, pa.large_binary()),
            pa.array(self._values, pa.large_binary()),
            pa.array(code, pa.int8()),
            pa.array(event_id, pa.large_string()),
            pa.array(vehicle_id, pa.large_string()),
            pa.array(times(event_us)),
            pa.array(times(ingest_us)),
            pa.array([value if is_known else None for value, is_known in zip(source, known)], pa.large_string()),
            pa.array(np.array(known, bool)),
            *(pa.array(np.array(values, np.float64)) for values in signals),
        ]
        self._blocks.append(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))
        self._offsets, self._times, self._keys, self._values = [], [], [], []


_SCHEMA = pa.schema([
    ("offset", pa.int64()),
    ("timestamp_us", pa.int64()),
    ("key", pa.large_binary()),
    ("value", pa.large_binary()),
    ("code", pa.int8()),
    ("event_id", pa.large_string()),
    ("vehicle_id", pa.large_string()),
    ("event_us", pa.int64()),
    ("ingest_us", pa.int64()),
    ("source", pa.large_string()),
    ("source_known", pa.bool_()),
    *((name, pa.float64()) for name in SIGNALS),
])
