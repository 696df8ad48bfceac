"""PyIceberg over the lake's REST catalog, as somebody uses it who knows nothing of Voltlake."""
import datetime

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, TimestamptzType

from . import digest

catalog = None

TRIPS = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "city", StringType(), required=False),
    NestedField(3, "begin", TimestamptzType(), required=False),
)
BY_CITY_AND_DAY = PartitionSpec(
    PartitionField(1, 1000, BucketTransform(4), "city_bucket"),
    PartitionField(3, 1001, DayTransform(), "begin_day"),
)
CITIES = ["Berlin", "Graz", "Wien"]


def open(uri, token):
    global catalog
    settings = {} if token == "" else {"token": token}
    catalog = load_catalog("lake", type="rest", uri=uri, **settings)


def namespaces():
    return sorted(".".join(name) for name in catalog.list_namespaces())


def tables(namespace):
    return sorted(".".join(name) for name in catalog.list_tables(namespace))


def count(table, filter=None):
    loaded = catalog.load_table(table)
    return (loaded.scan() if filter is None else loaded.scan(row_filter=filter)).to_arrow().num_rows


def read(table, snapshot=None):
    loaded = catalog.load_table(table)
    scan = loaded.scan() if snapshot is None else loaded.scan(snapshot_id=int(snapshot))
    return digest.of_rows(scan.to_arrow().to_pylist())


def rows(start, size, **more):
    """Trips with ids from `start`, over three cities and days."""
    begin = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
    numbers = range(start, start + size)
    columns = {
        "id": pa.array(numbers, pa.int64()),
        "city": pa.array([CITIES[number % 3] for number in numbers]),
        "begin": pa.array([begin + datetime.timedelta(hours=number) for number in numbers], pa.timestamp("us", tz="UTC")),
    }
    return pa.table({**columns, **{name: pa.array([value] * size) for name, value in more.items()}})


def make_trips(namespace):
    catalog.create_namespace(namespace, {"owner": "somebody"})
    catalog.create_table(f"{namespace}.trips", TRIPS, partition_spec=BY_CITY_AND_DAY, properties={"note": "mine"})
    loaded = catalog.load_table(f"{namespace}.trips")
    return {"location": loaded.location(), "properties": dict(loaded.properties), "columns": [field.name for field in loaded.schema().fields]}


def append(table, start, size):
    catalog.load_table(table).append(rows(start, size))


def append_as_they_are(table):
    """The table's own first rows once more."""
    loaded = catalog.load_table(table)
    loaded.append(loaded.scan(limit=1).to_arrow())


def change_trips(table):
    """Everything that PyIceberg does to a table, with the number of rows after each step."""
    loaded = catalog.load_table(table)
    counts = {}

    def note(step):
        counts[step] = loaded.scan().to_arrow().num_rows

    loaded.delete("id < 3")
    note("delete")
    loaded.overwrite(rows(1000, 5), overwrite_filter="city == 'Wien'")
    note("overwrite")
    loaded.manage_snapshots().create_tag(loaded.current_snapshot().snapshot_id, "audit").commit()
    with loaded.update_schema() as update:
        update.add_column("fare", DoubleType())
        update.rename_column("begin", "started")
    with loaded.update_spec() as update:
        update.remove_field("begin_day")
    loaded.append(rows(2000, 4, fare=1.5).rename_columns(["id", "city", "started", "fare"]))
    note("append")
    with loaded.transaction() as transaction:
        transaction.set_properties(note="changed")
        transaction.append(rows(3000, 1, fare=2.5).rename_columns(["id", "city", "started", "fare"]))
    note("transaction")
    loaded = catalog.load_table(table)
    note("loaded anew")
    counts["at the tag"] = loaded.scan(snapshot_id=loaded.snapshot_by_name("audit").snapshot_id).to_arrow().num_rows
    return {"counts": counts, "columns": [field.name for field in loaded.schema().fields], "properties": dict(loaded.properties)}


def stage_trips(table):
    """A table that comes into being with its first rows."""
    with catalog.create_table_transaction(table, TRIPS) as transaction:
        transaction.append(rows(0, 10))
    return catalog.load_table(table).scan().to_arrow().num_rows


def move(table, to):
    catalog.rename_table(table, to)


def register(table, copy_of):
    """The same table under another name, after it was dropped."""
    location = catalog.load_table(copy_of).metadata_location
    catalog.drop_table(copy_of)
    catalog.register_table(table, location)


def purge(table):
    catalog.purge_table(table)


def drop(table):
    catalog.drop_table(table)


def drop_namespace(namespace):
    catalog.drop_namespace(namespace)


def delete(table, filter):
    loaded = catalog.load_table(table)
    loaded.delete(filter)
    return dict(catalog.load_table(table).current_snapshot().summary.additional_properties)


def evolve(table, column):
    """What others may change in a table of the lake."""
    loaded = catalog.load_table(table)
    with loaded.update_schema() as update:
        update.add_column(column, StringType())
    loaded = catalog.load_table(table)
    with loaded.transaction() as transaction:
        transaction.set_properties({"somebody.note": "seen"})
    loaded.manage_snapshots().create_tag(loaded.current_snapshot().snapshot_id, "somebody").commit()


def drop_column(table, column):
    with catalog.load_table(table).update_schema() as update:
        update.delete_column(column)


def refs(table):
    return sorted(catalog.load_table(table).metadata.refs)
