"""Tables as PyIceberg makes them, of every type, transform and kind of evolution that it can write. The same at every call."""
import datetime
import decimal
import uuid

import pyarrow as pa
from pyiceberg import transforms
from pyiceberg.expressions import EqualTo
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

UTC = datetime.timezone.utc
START = datetime.datetime(2023, 11, 30, 22, 15, 30, 123456)


def field(number, name, kind, required=False):
    return NestedField(number, name, kind, required=required)


TYPES = Schema(
    field(1, "id", LongType(), required=True),
    field(2, "flag", BooleanType()),
    field(3, "small", IntegerType()),
    field(4, "single", FloatType()),
    field(5, "double", DoubleType()),
    field(6, "little_money", DecimalType(9, 2)),
    field(7, "much_money", DecimalType(38, 6)),
    field(8, "day", DateType()),
    field(9, "clock", TimeType()),
    field(10, "local_time", TimestampType()),
    field(11, "instant", TimestamptzType()),
    field(12, "text", StringType()),
    field(13, "key", UUIDType()),
    field(14, "bytes", BinaryType()),
    field(15, "four", FixedType(4)),
    field(16, "place", StructType(field(20, "lat", DoubleType()), field(21, "names", ListType(22, StringType(), False)))),
    field(17, "marks", ListType(23, IntegerType(), False)),
    field(18, "signals", MapType(24, StringType(), 25, DoubleType(), False)),
    field(19, "visits", ListType(26, StructType(field(27, "at", TimestamptzType()), field(28, "count", LongType())), False)),
)


def typed_row(number):
    """Every seventh row is empty but for its id; the second and third hold what is at the edge."""
    if number % 7 == 6:
        return {"id": number}
    edge = {1: -1, 2: 1}.get(number)
    local = START + datetime.timedelta(hours=number, microseconds=number)
    return {
        "id": number,
        "flag": number % 2 == 0,
        "small": number if edge is None else edge * (2**31 - 1),
        "single": number / 4,
        "double": {3: float("nan"), 4: float("inf")}.get(number, -number / 8),
        "little_money": decimal.Decimal(number * 31).scaleb(-2),
        "much_money": decimal.Decimal(number if edge is None else edge * (10**38 - 1)).scaleb(-6, decimal.Context(prec=38)),
        "day": datetime.date(1969, 12, 30) + datetime.timedelta(days=number * 100),
        "clock": datetime.time(number % 24, 59, 59, 999999),
        "local_time": local,
        "instant": local.replace(tzinfo=UTC),
        "text": ["", "Zürich", "\U0001f697 of the fleet", "a,b\"c"][number % 4] + str(number),
        "key": uuid.UUID(int=number + 2**120).bytes,
        "bytes": bytes([number % 256, 0, 255]),
        "four": bytes([number % 256] * 4),
        "place": {"lat": number + 0.5, "names": [None, f"n{number}"][: number % 3]},
        "marks": list(range(number % 4)),
        "signals": {f"s{at}": at / 2 for at in range(number % 3)},
        "visits": [{"at": local.replace(tzinfo=UTC), "count": number}] * (number % 2),
    }


def arrow(table, rows):
    return pa.Table.from_pylist(rows, schema=table.schema().as_arrow())


def make_types(catalog, name):
    table = catalog.create_table(name, TYPES, properties={"write.parquet.compression-codec": "zstd"})
    for start in (0, 40):
        table.append(arrow(table, [typed_row(number) for number in range(start, start + 40)]))


EVENTS = Schema(
    field(1, "id", LongType(), required=True),
    field(2, "vehicle", StringType()),
    field(3, "at", TimestamptzType()),
    field(4, "day", DateType()),
    field(5, "speed", IntegerType()),
)

# The column and the transform of it; what a reader who filters by it asks for is the test's.
PARTITIONS = {
    "identity": ("vehicle", transforms.IdentityTransform()),
    "bucket": ("id", transforms.BucketTransform(8)),
    "truncate": ("vehicle", transforms.TruncateTransform(4)),
    "truncate_number": ("speed", transforms.TruncateTransform(25)),
    "hour": ("at", transforms.HourTransform()),
    "day": ("at", transforms.DayTransform()),
    "month": ("day", transforms.MonthTransform()),
    "year": ("day", transforms.YearTransform()),
}


def event(number):
    if number % 19 == 18:
        return {"id": number}
    at = datetime.datetime(1969, 12, 31, 20, tzinfo=UTC) + datetime.timedelta(minutes=97 * number)
    day = datetime.date(1968, 11, 1) + datetime.timedelta(days=43 * number)
    return {"id": number, "vehicle": f"car{number % 5}x", "at": at, "day": day, "speed": number % 7 * 20 - 40}


def make_partitioned(catalog, namespace):
    for name, (column, transform) in PARTITIONS.items():
        source = EVENTS.find_field(column).field_id
        spec = PartitionSpec(PartitionField(source, 1000, transform, f"{column}_part"))
        table = catalog.create_table(f"{namespace}.by_{name}", EVENTS, partition_spec=spec)
        table.append(arrow(table, [event(number) for number in range(60)]))
    return [f"by_{name}" for name in PARTITIONS]


def make_evolved(catalog, name):
    """A table with a past: every read of it that has rows of its own. Answers the ids of its snapshots, as text, by what each came from."""
    table = catalog.create_table(name, EVENTS)
    snapshots = {}

    def remember(what):
        snapshots[what] = str(table.current_snapshot().snapshot_id)

    table.append(arrow(table, [event(number) for number in range(10)]))
    remember("first")
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "before").commit()
    with table.update_schema() as update:
        update.add_column("battery", DoubleType())
        update.rename_column("vehicle", "car")
        update.update_column("speed", LongType())
        update.delete_column("day")
        update.move_first("at")
    table = catalog.load_table(name)
    with table.update_spec() as update:
        update.add_field("car", transforms.BucketTransform(4), "car_bucket")
    table = catalog.load_table(name)
    later = [{**event(number), "battery": number / 2, "speed": 2**40 + number} for number in range(10, 30)]
    later = [{("car" if key == "vehicle" else key): value for key, value in row.items() if key != "day"} for row in later]
    table.append(arrow(table, later))
    remember("evolved")
    table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "audit").commit()
    table.delete(EqualTo("id", 12))
    remember("deleted")
    table.overwrite(arrow(table, [{"id": 3, "car": "new"}]), overwrite_filter=EqualTo("id", 3))
    remember("overwritten")
    with table.update_spec() as update:
        update.remove_field("car_bucket")
        update.add_field("at", transforms.DayTransform(), "at_day")
    table = catalog.load_table(name)
    table.append(arrow(table, [{"id": 100, "at": START.replace(tzinfo=UTC)}, {"id": 101, "car": "car1x"}]))
    remember("last")
    table.append(arrow(table, [{"id": 200}]), branch="audit")
    return snapshots


def change_cars(catalog, name):
    table = catalog.load_table(name)
    rows = [{"id": 900 + number, "vehicle": f"car{number}", "at": START.replace(tzinfo=UTC), "speed_kmh": number, "marks": [number]} for number in range(4)]
    table.append(arrow(table, rows))
    with table.update_schema() as update:
        update.add_column("driver", StringType())
        update.rename_column("speed_kmh", "speed")
        update.move_first("driver")
    table = catalog.load_table(name)
    table.append(arrow(table, [{"id": 910, "at": START.replace(tzinfo=UTC), "driver": "Zoë"}]))
    table.delete(EqualTo("id", 25))
    table.delete(EqualTo("vehicle", "car0"))
