"""Spark over the lake's catalog: SQL, in one session."""
import glob
import os
import tempfile
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from . import digest

spark = None


def open(uri, warehouse):
    global spark
    server = urlsplit(uri)
    settings = {
        "spark.jars": ",".join(sorted(glob.glob(os.path.join(os.environ["SPARK_JARS"], "*.jar")))),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.lakehouse": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lakehouse.type": "jdbc",
        "spark.sql.catalog.lakehouse.uri": f"jdbc:postgresql://{server.hostname}:{server.port}{server.path}",
        "spark.sql.catalog.lakehouse.jdbc.user": server.username,
        "spark.sql.catalog.lakehouse.jdbc.password": server.password,
        "spark.sql.catalog.lakehouse.jdbc.schema-version": "V1",
        "spark.sql.catalog.lakehouse.warehouse": warehouse,
        # Others commit too.
        "spark.sql.catalog.lakehouse.cache-enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": tempfile.gettempdir(),
        "spark.driver.memory": "1g",
        # Many statements over few rows: compiling them would take longer than running them.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.default.parallelism": "1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("voltlake-interop")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")


def run(statements):
    """One after the other, without their results."""
    for statement in statements:
        try:
            spark.sql(statement).collect()
        except Exception as error:
            raise RuntimeError(f"{statement.strip()[:200]}: {error}") from None


def read(query):
    """Digest of the rows of a query."""
    return digest.of_rows([row.asDict(recursive=True) for row in spark.sql(query).collect()])


def rows(query):
    return [list(row) for row in spark.sql(query).collect()]
