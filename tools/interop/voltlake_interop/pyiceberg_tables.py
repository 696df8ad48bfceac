"""Tables as PyIceberg makes them, of every type, transform and kind of evolution that it can write. The same at every call."""
import datetime
import decimal
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
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


MARKS = MapType(16, StringType(), 17, StructType(field(18, "n", IntegerType()), field(19, "s", StringType())), False)
NESTED = Schema(
    field(1, "id", LongType(), required=True),
    field(2, "place", StructType(field(10, "lat", FloatType()), field(11, "lon", DoubleType()), field(12, "name", StringType()))),
    field(3, "stops", ListType(13, StructType(field(14, "at", TimestamptzType()), field(15, "marks", MARKS)), False)),
)


def nested_row(number):
    """Every fourth row is empty but for its id, and every third list; structs within are missing too. PyIceberg reads a missing list of structs as empty."""
    if number % 4 == 3:
        return {"id": number, "stops": []}
    marks = {f"m{number}": {"n": number, "s": f"s{number}"}, "none": None}
    stop = {"at": START.replace(tzinfo=UTC) + datetime.timedelta(days=number), "marks": marks if number % 2 else {}}
    return {
        "id": number,
        "place": {"lat": number / 2, "lon": number / 4, "name": f"n{number}"},
        "stops": [stop, None][: number % 3],
    }


def change_nested(table):
    """Names at every depth change, one column is another afterwards, and two exchange their names."""
    with table.update_schema() as update:
        update.rename_column("place.lat", "latitude")
        update.update_column("place.lat", DoubleType())
        update.delete_column("place.lon")
        update.rename_column("stops.element.marks", "points")
        update.rename_column("stops.element.marks.value.n", "count")
        update.move_first("place.name")
    with table.update_schema() as update:
        update.add_column(("place", "lon"), StringType())
        update.rename_column("stops.element.points.value.s", "n")


def changed_mark(mark):
    return mark and {"count": mark["n"], "n": mark["s"]}


def changed_row(number):
    row = nested_row(number)
    if "place" in row:
        row["place"] = {"name": "new", "latitude": number / 8, "lon": f"lon{number}"}
        row["stops"] = [stop and {"at": stop["at"], "points": {key: changed_mark(mark) for key, mark in stop["marks"].items()}} for stop in row["stops"]]
    return row


def make_nested(catalog, name):
    table = catalog.create_table(name, NESTED)
    table.append(arrow(table, [nested_row(number) for number in range(12)]))
    change_nested(table)
    table = catalog.load_table(name)
    table.append(arrow(table, [changed_row(number) for number in range(20, 32)]))


def plain_file(table, name, rows, columns):
    """A Parquet file as any program writes it: without Iceberg's ids, and with columns in an order of its own."""
    types = table.schema().as_arrow()
    schema = pa.schema([pa.field(column, without_ids(types.field(column).type), types.field(column).nullable) for column in columns])
    path = f"{table.location()}/data/{name}.parquet"
    with table.io.new_output(path).create(overwrite=True) as out:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out)
    return path


def without_ids(kind):
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, without_ids(one.type)) for one in kind])
    if pa.types.is_map(kind):
        return pa.map_(without_ids(kind.key_type), without_ids(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(without_ids(kind.value_type))
    return kind


def make_added(catalog, name):
    """Files of others taken into a table, before and after its columns change, beside files of its own. Answers its name mapping."""
    table = catalog.create_table(name, NESTED)
    table.add_files([plain_file(table, "plain-0", [nested_row(number) for number in range(12)], ["stops", "id", "place"])])
    table = catalog.load_table(name)
    table.append(arrow(table, [nested_row(number) for number in range(40, 44)]))
    table = catalog.load_table(name)
    with table.update_schema() as update:
        update.rename_column("place.lat", "latitude")
        update.rename_column("stops", "visits")
        update.delete_column("place.lon")
        update.add_column("driver", StringType())
    table = catalog.load_table(name)
    rows = [{"id": number, "driver": f"d{number}", "place": {"latitude": number / 2, "name": None}} for number in range(50, 54)]
    table.add_files([plain_file(table, "plain-1", rows, ["driver", "place", "id"])])
    table = catalog.load_table(name)
    return table.properties["schema.name-mapping.default"]


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
