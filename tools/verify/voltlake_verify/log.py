"""Reads all that a topic holds, as a reader of committed records sees it."""

from __future__ import annotations

import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from .records import Builder, Records

TIMEOUT_S = 30.0
_BATCH = 5_000
# A batch is waited for that long, also where its end is the log's end.
_WAIT_S = 0.1


class LogSilent(Exception):
    """The log gives nothing more, though it holds more."""


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    metadata = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return sorted(metadata.partitions)


def read(bootstrap_servers: str, topic: str) -> dict[int, Records]:
    """Every partition's records up to its end as it is now. Offsets of markers and of aborted transactions have none."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers,
        "group.id": f"voltlake-verify-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "check.crcs": True,
        "queued.max.messages.kbytes": 16_384,
        "fetch.message.max.bytes": 1024 * 1024,
    })
    try:
        partitions = _partitions(consumer, topic)
        first = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=TIMEOUT_S)[0] for p in partitions}
        builders = {p: Builder() for p in partitions}
        ends: dict[int, int] = {}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        silent_since = time.monotonic()
        while len(ends) < len(partitions):
            messages = consumer.consume(_BATCH, _WAIT_S)
            if messages:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > TIMEOUT_S:
                raise LogSilent(f"no answer from {topic} for {TIMEOUT_S:.0f} s; partitions {sorted(set(partitions) - set(ends))} are not at their end")
            for message in messages:
                partition = message.partition()
                error = message.error()
                if error is None:
                    # What came after the end was seen is of a later time.
                    if partition not in ends:
                        builders[partition].add(
                            message.offset(), message.timestamp()[1] * 1000, message.key(), message.value(), message.headers()
                        )
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends.setdefault(partition, message.offset())
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
        return {p: builders[p].finish(first[p], ends[p]) for p in partitions}
    finally:
        consumer.close()
