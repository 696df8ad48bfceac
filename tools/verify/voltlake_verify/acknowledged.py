"""What a producer was told is in the log, against the log: a file with a line of JSON for each batch `{partition, base, count, crc32}`."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from .records import Records
from .report import Report

_CHECK = "acknowledged"


def check(report: Report, path: Path, log: dict[int, Records]) -> None:
    """Reports every batch of which the log does not hold all records, with the keys and values that were sent."""
    report.compared(_CHECK, 0)
    for line in path.read_text("utf-8").splitlines():
        batch = json.loads(line)
        partition, base, count = batch["partition"], batch["base"], batch["count"]
        report.compared(_CHECK, count)
        records = log.get(partition)
        if records is None:
            report.problem(_CHECK, "the topic has no such partition", partition=partition)
            continue
        start, end = np.searchsorted(records.offset, [base, base + count]).tolist()
        if end - start != count:
            report.problem(_CHECK, f"{count - (end - start)} of {count} records are not in the log", partition=partition, offset=base)
            continue
        crc = 0
        for key, value in zip(records.key[start:end].to_pylist(), records.value[start:end].to_pylist()):
            crc = zlib.crc32(value, zlib.crc32(key, crc))
        if crc != batch["crc32"]:
            report.problem(_CHECK, "the log holds other keys or values than were sent", partition=partition, offset=base)
