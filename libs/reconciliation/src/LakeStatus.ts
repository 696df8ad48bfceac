/** How far every stage has come: read from the log, the tables' summaries and gold's progress; costs no look at the rows. */
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import * as Removals from "@voltlake/domain/Removals"
import { telemetryClean, telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as GoldProgress from "@voltlake/gold/GoldProgress"

export interface StageProgress {
  readonly stage: "ingest" | "bronze" | "silver" | "gold"
  readonly rows: bigint
  readonly lag: bigint
  readonly position: Position.Position
}

export interface LakeStatus {
  readonly stages: ReadonlyArray<StageProgress>
  readonly rejected: bigint
  readonly duplicates: bigint
  readonly skipped: bigint
  readonly lost: bigint
}

/** Rows that are there, by the counters. */
const rowsOf = ({ progress, removals }: Pick<LakeTables.Loaded, "progress" | "removals">) =>
  Progress.total(progress, "rows") - Removals.total(removals.rows)

/** Reads gold first and the log last, so that no stage seems ahead of the one before it. */
export const read = Effect.fn("LakeStatus.read")(function*(topic: string) {
  const sql = yield* SqlClient.SqlClient
  const log = yield* EventLog
  const { progress: gold } = yield* GoldProgress.read(sql)
  const clean = yield* LakeTables.load(telemetryClean)
  const silver = clean.progress
  const raw = yield* LakeTables.load(telemetryRaw)
  const bronze = raw.progress
  // Of the log as it is now: what was read of another one under the topic's name is all read.
  const bounds = LogLineage.named(yield* LogLineage.of(raw.metadata), yield* log.partitions(topic))
  const end = Position.make(bounds.map((partition) => [partition, partition.end] as const))
  const at = Progress.position
  const begun = Position.make(bounds.map((partition) => [partition, partition.first] as const))
  const stages: ReadonlyArray<StageProgress> = [
    { stage: "ingest", rows: Position.lag(Position.empty, end), lag: 0n, position: end },
    { stage: "bronze", rows: rowsOf(raw), lag: Position.lag(Position.max(begun, at(bronze)), end), position: at(bronze) },
    { stage: "silver", rows: rowsOf(clean), lag: Position.lag(Progress.resume(silver, bronze), at(bronze)), position: at(silver) },
    { stage: "gold", rows: Progress.total(gold, "rows"), lag: Position.lag(Progress.resume(gold, silver), at(silver)), position: at(gold) }
  ]
  const status: LakeStatus = {
    stages,
    rejected: Progress.total(silver, "rejected"),
    duplicates: Progress.total(silver, "duplicates"),
    skipped: Progress.total(bronze, "skipped"),
    lost: Progress.total(bronze, "lost")
  }
  return status
})
