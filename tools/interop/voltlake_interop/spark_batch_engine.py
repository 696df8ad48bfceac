"""Gold by batch in one long session of Spark: jobs come as to `spark-submit`, by a socket, since starting Spark takes longer than they do."""
import builtins
import glob
import importlib.util
import json
import os
import socketserver
import tempfile
import threading

from pyspark.sql import SparkSession

gold_batch = None


class Submitted(socketserver.StreamRequestHandler):
    def handle(self):
        asked = json.loads(self.rfile.readline())
        with builtins.open(asked["job"], encoding="utf-8") as file:
            job = json.load(file)
        try:
            answer = gold_batch.run(gold_batch.session(job, asked["token"]), job)
        except Exception as error:
            answer = {"error": gold_batch.reason(error)}
        with builtins.open(asked["answer"], "w", encoding="utf-8") as file:
            json.dump(answer, file)


def open_session():
    settings = {
        "spark.jars": ",".join(sorted(glob.glob(os.path.join(os.environ["SPARK_JARS"], "*.jar")))),
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.warehouse.dir": tempfile.gettempdir(),
        "spark.driver.memory": "1g",
        # Many statements over few rows: compiling them would take longer than running them.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("voltlake-interop")
    for key, value in settings.items():
        builder = builder.config(key, value)
    builder.getOrCreate().sparkContext.setLogLevel("ERROR")


def open(script, socket):
    global gold_batch
    spec = importlib.util.spec_from_file_location("gold_batch", script)
    gold_batch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gold_batch)
    open_session()
    server = socketserver.ThreadingUnixStreamServer(socket, Submitted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
