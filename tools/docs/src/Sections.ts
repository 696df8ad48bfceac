/** Which settings there are, by owner. */
import * as Bronze from "@voltlake/bronze/Bronze"
import { listenConfig, portConfig, sourceConfig } from "@voltlake/commands/StartConfig"
import { pathConfig } from "@voltlake/adapters/DataDir"
import { postgresUrlConfig, warehouseConfig } from "@voltlake/adapters/Adapters"
import * as KafkaSettings from "@voltlake/event-log/KafkaSettings"
import * as Dags from "@voltlake/commands/Dags"
import * as Gold from "@voltlake/gold/Gold"
import * as MinuteRetention from "@voltlake/gold/MinuteRetention"
import * as SparkSettings from "@voltlake/gold/SparkSettings"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Cleaner from "@voltlake/maintenance/Cleaner"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as LogRetention from "@voltlake/maintenance/LogRetention"
import * as S3Settings from "@voltlake/object-store/S3Settings"
import * as Logs from "@voltlake/observability/Logs"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import * as CatalogSettings from "@voltlake/rest-catalog/CatalogSettings"
import * as Silver from "@voltlake/silver/Silver"
import type { Section } from "./ConfigDoc.ts"

export const sections: ReadonlyArray<Section> = [
  {
    title: "The process",
    text: "Options `--data-dir`, `--port` and `--source` of the commands have the same meaning.",
    configs: [pathConfig, portConfig, sourceConfig, listenConfig, postgresUrlConfig, Logs.levelConfig, Logs.formatConfig]
  },
  {
    title: "Kafka",
    text: "The log, where `KAFKA_BOOTSTRAP_SERVERS` is set. Otherwise it is in PostgreSQL.",
    configs: [KafkaSettings.settingsConfig]
  },
  {
    title: "S3",
    text: "The tables, where `WAREHOUSE` is set; the other settings are only looked at then.",
    configs: [warehouseConfig, S3Settings.settingsConfig]
  },
  {
    title: "REST catalog",
    text: "What other engines open tables by, served with the page below `/catalog` ([OPEN-TABLES](OPEN-TABLES.md)).",
    configs: [CatalogSettings.settingsConfig]
  },
  { title: "Ingest", text: "The log that events go to.", configs: [Ingest.settingsConfig] },
  { title: "Simulator", text: "The default source.", configs: [Simulator.settingsConfig] },
  { title: "Bronze", text: "From the log to `bronze.telemetry_raw`.", configs: [Bronze.settingsConfig] },
  { title: "Silver", text: "From bronze to `silver.telemetry_clean` and `silver.telemetry_rejected`.", configs: [Silver.settingsConfig] },
  { title: "Gold", text: "From silver to PostgreSQL.", configs: [Gold.settingsConfig, MinuteRetention.settingsConfig] },
  {
    title: "Maintenance",
    text: "By whichever process of a stage does it: the same for all of them.",
    configs: [Cleaner.settingsConfig, Compaction.settingsConfig, DayRetention.settingsConfig, LogRetention.settingsConfig]
  },
  { title: "Orchestrator", text: "What runs the DAGs.", configs: [Dags.settingsConfig, SparkSettings.settingsConfig] },
  { title: "Engine", text: "DuckDB, one in every process.", configs: [DuckDbQueryEngine.settingsConfig] }
]
