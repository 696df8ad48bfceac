"""PyIceberg over the lake's catalog."""
from pyiceberg.catalog.sql import SqlCatalog

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
