/**
 * The HTTP contract of the console, shared by the server and the page. Its OpenAPI document is served at `/openapi.json`.
 *
 * Offsets and counts are text where they may exceed 2^53, since JSON numbers do not hold them.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { LakeUnavailable } from "./LakeUnavailable.ts"
import * as OpsApi from "./OpsApi.ts"

const Count = Schema.NumberFromString.annotations({ description: "A whole number as text" })

export class StageStatus extends Schema.Class<StageStatus>("StageStatus")({
  stage: Schema.Literal("ingest", "bronze", "silver", "gold"),
  /** `standby`: another process does its work; `unknown`: the stage does not run in the process that answers. */
  state: Schema.Literal("running", "waiting", "standby", "stopped", "unknown"),
  /** Why it waits or stopped; empty while it runs. */
  reason: Schema.String,
  /** By the counters: records of the log since it began, rows that are in bronze and silver, events in gold. */
  rows: Count,
  /** Offsets of its source that it has not read yet. */
  lag: Count,
  /** Next offset to read by topic-partition. */
  position: Schema.Record({ key: Schema.String, value: Schema.BigInt })
}) {}

export class LakeStatus extends Schema.Class<LakeStatus>("LakeStatus")({
  stages: Schema.Array(StageStatus),
  rejected: Count,
  duplicates: Count,
  /** Offsets that held no record, or that the log dropped before they were read. */
  skipped: Count,
  lost: Count
}) {}

/** Times are minutes of event time in UTC, as ISO-8601. */
export class ChartPoint extends Schema.Class<ChartPoint>("ChartPoint")({
  minute: Schema.String,
  /** Least battery percentage of the fleet in the minute; null where no event had one. */
  batteryPercent: Schema.NullOr(Schema.Number),
  events: Schema.Number
}) {}

/** Everything that the first page shows. */
export class Dashboard extends Schema.Class<Dashboard>("Dashboard")({
  status: LakeStatus,
  /** The latest minutes that have events, oldest first. */
  minutes: Schema.Array(ChartPoint)
}) {}

/** Most minutes that a chart shows. */
export const chartMinutesMax = 1440

export const chartMinutesDefault = 120

const minutesParam = Schema.Struct({
  minutes: Schema.optionalWith(
    Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, chartMinutesMax)),
    { default: () => chartMinutesDefault }
  )
})

const lake = HttpApiGroup.make("lake", { topLevel: true })
  .add(
    HttpApiEndpoint.get("status", "/api/status")
      .addSuccess(LakeStatus)
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "Counts, positions and lag of every stage")
  )
  .add(
    HttpApiEndpoint.get("dashboard", "/api/dashboard")
      .setUrlParams(minutesParam)
      .addSuccess(Dashboard)
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "Status and the minutes of both charts")
  )
  .add(
    HttpApiEndpoint.get("live", "/api/live")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/event-stream" }))
      .annotate(OpenApi.Description, "Server-sent events: a Dashboard as JSON whenever gold has moved, at most one a second")
  )
  .add(
    HttpApiEndpoint.get("health", "/health")
      .addSuccess(Schema.Struct({ status: Schema.Literal("ok") }))
      .annotate(OpenApi.Description, "The process is alive")
  )
  .add(
    HttpApiEndpoint.get("ready", "/ready")
      .addSuccess(Schema.Struct({ status: Schema.Literal("ready") }))
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "The lake can be read and no stage of this process has stopped")
  )

export class LakeApi extends HttpApi.make("voltlake").add(lake).add(OpsApi.group)
  .annotate(OpenApi.Title, "Voltlake")
  .annotate(OpenApi.Version, "1")
{}
