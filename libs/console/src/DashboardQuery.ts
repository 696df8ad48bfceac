/** What the first page shows, read from the lake. */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { ChartPoint, Dashboard, LakeStatus, StageStatus } from "@voltlake/api/LakeApi"
import * as Status from "@voltlake/reconciliation/LakeStatus"
import { StageHealth } from "@voltlake/stage-runner/Stage"

export const status = Effect.fn("DashboardQuery.status")(function*(topic: string) {
  const read = yield* Status.read(topic)
  const health = yield* (yield* StageHealth).all
  return new LakeStatus({
    stages: read.stages.map((stage) => {
      const known = health.find((one) => one.stage === stage.stage)
      const state = known?.state ?? "unknown"
      return new StageStatus({
        stage: stage.stage,
        state,
        reason: known?.reason ?? "",
        rows: Number(stage.rows),
        lag: Number(stage.lag),
        position: Object.fromEntries(stage.position)
      })
    }),
    rejected: Number(read.rejected),
    duplicates: Number(read.duplicates),
    skipped: Number(read.skipped),
    lost: Number(read.lost)
  })
})

/** Both charts of the demonstration stack: least battery and events, by minute. */
const minutes = Effect.fnUntraced(function*(count: number) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly minute: Date; readonly battery: number | null; readonly events: bigint }>`
    SELECT minute_ts AS minute, min_battery_percent_fleet AS battery, total_events AS events
    FROM gold_fleet_minute_metrics ORDER BY minute_ts DESC LIMIT ${count}`
  return rows.toReversed().map((row) =>
    new ChartPoint({ minute: row.minute.toISOString(), batteryPercent: row.battery, events: Number(row.events) })
  )
})

export const dashboard = Effect.fn("DashboardQuery.dashboard")(function*(topic: string, minutesMax: number) {
  return new Dashboard({ status: yield* status(topic), minutes: yield* minutes(minutesMax) })
})
