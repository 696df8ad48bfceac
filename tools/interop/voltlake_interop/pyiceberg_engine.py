"""PyIceberg over the lake's catalog."""
import datetime

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import FixedType, StringType

from . import digest, pyiceberg_tables

catalog = None


def open(uri, warehouse):
    global catalog
    catalog = SqlCatalog("lakehouse", uri=uri.replace("postgres://", "postgresql+psycopg2://"), warehouse=warehouse, init_catalog_tables="false")


def read(table, snapshot=None, ref=None, filter=None):
    """Digest of the rows of a table; of a snapshot by its id (as text) or by a reference, where asked for."""
    loaded = catalog.load_table(table)
    options = {} if filter is None else {"row_filter": filter}
    scan = loaded.scan(**options) if snapshot is None else loaded.scan(snapshot_id=int(snapshot), **options)
    if ref is not None:
        scan = scan.use_ref(ref)
    return digest.of_rows(scan.to_arrow().to_pylist(maps_as_pydicts="strict"))


def version():
    import pyiceberg
    return pyiceberg.__version__


def make_golden(namespace):
    catalog.create_namespace(namespace)
    pyiceberg_tables.make_types(catalog, f"{namespace}.types")
    return {
        "partitioned": pyiceberg_tables.make_partitioned(catalog, namespace),
        "snapshots": pyiceberg_tables.make_evolved(catalog, f"{namespace}.evolved"),
    }


def make_by_columns(namespace):
    """Tables of which columns are found by what each file calls them. Answers the name mapping of the one with files that have no ids."""
    catalog.create_namespace(namespace)
    pyiceberg_tables.make_nested(catalog, f"{namespace}.nested")
    return pyiceberg_tables.make_added(catalog, f"{namespace}.added")


def drop_property(table, key):
    with catalog.load_table(table).transaction() as transaction:
        transaction.remove_properties(key)


def change(table):
    """Appends, evolves and deletes, in a table that `OwnTable` made."""
    pyiceberg_tables.change_cars(catalog, table)


def add_columns(table):
    """One that Voltlake could write, and one that it could not."""
    with catalog.load_table(table).update_schema() as update:
        update.add_column("note", StringType())
        update.add_column("seal", FixedType(4))


def rewrite(table):
    """All rows in new files: what PyIceberg has in place of a compaction."""
    loaded = catalog.load_table(table)
    loaded.overwrite(loaded.scan().to_arrow())


def expire(table):
    """Every snapshot that nothing names. Answers how many are left."""
    loaded = catalog.load_table(table)
    loaded.maintenance.expire_snapshots().older_than(datetime.datetime.now() + datetime.timedelta(days=1)).commit()
    return len(catalog.load_table(table).metadata.snapshots)
