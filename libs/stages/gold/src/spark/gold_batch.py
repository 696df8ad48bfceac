"""Computes a gold model's rows: `spark-submit gold_batch.py JOB ANSWER`, both files of JSON. What the job says is made by SparkJob.ts.

The token of the REST catalog is in SPARK_CATALOG_TOKEN. It ends by itself once the table that it is to write has been dropped: then nobody waits for it.
"""
import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request

LOOK_EVERY_S = 5
REASON_MAX = 2000


def settings(job, token):
    """Of the session. Those of SQL are what SparkExpression.ts counts on."""
    catalog = f"spark.sql.catalog.{job['catalog']['name']}"
    found = {
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "rest",
        f"{catalog}.uri": job["catalog"]["uri"],
        f"{catalog}.cache-enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.ansi.doubleQuotedIdentifiers": "false",
        "spark.sql.caseSensitive": "false",
        "spark.sql.decimalOperations.allowPrecisionLoss": "false",
        "spark.sql.parser.escapedStringLiterals": "false",
        "spark.sql.timestampType": "TIMESTAMP_LTZ",
        "spark.sql.groupByOrdinal": "true",
    }
    if token:
        found[f"{catalog}.token"] = token
    return found


def is_gone(job, token):
    request = urllib.request.Request(f"{job['catalog']['uri']}/{job['rows']['path']}", method="HEAD")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        urllib.request.urlopen(request, timeout=LOOK_EVERY_S).close()
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:
        pass
    return False


def watch(job, token):
    while not is_gone(job, token):
        time.sleep(LOOK_EVERY_S)
    os._exit(3)


def run(spark, job):
    """Writes the rows, and answers what was found of them, as they were written."""
    spark.sql(job["source"]["query"]).createOrReplaceTempView(job["source"]["view"])
    rows = job["rows"]
    spark.sql(rows["query"]).writeTo(rows["table"]).append()
    spark.table(rows["table"]).createOrReplaceTempView(rows["view"])
    counts = {name: str(count) for name, count in spark.sql(job["counts"]).first().asDict().items()}
    repeated = spark.sql(job["repeated"]).first()
    return {"counts": counts, "repeated": None if repeated is None else [str(value) for value in repeated]}


def reason(error):
    """What an operator can use of it: not the plan, nor where in Spark it happened."""
    text = str(error)
    causes = re.findall(r"^Caused by: (.*)$", text, re.MULTILINE)
    said = causes[-1] if causes else re.split(r"\n(?=[\s'+]|JVM stacktrace|== )|;\n", text)[0]
    lines = [line for line in said.splitlines() if not re.match(r"\s+at |An error occurred while calling", line)]
    return " ".join(lines).removeprefix(": ").strip()[:REASON_MAX] or type(error).__name__


def session(job, token):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(job["name"])
    for key, value in settings(job, token).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def main(job_path, answer_path):
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    token = os.environ.get("SPARK_CATALOG_TOKEN", "")
    threading.Thread(target=watch, args=(job, token), daemon=True).start()
    try:
        spark = session(job, token)
        spark.sparkContext.setLogLevel("ERROR")
        answer = run(spark, job)
        spark.stop()
    except Exception as error:
        answer = {"error": reason(error)}
    with open(f"{answer_path}.part", "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(f"{answer_path}.part", answer_path)


if __name__ == "__main__":
    main(*sys.argv[1:3])
