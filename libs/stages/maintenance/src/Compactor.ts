/**
 * Compaction as a stage: looks at the lake's tables every minute, merges where small files have come together, and drops snapshots whose time is over.
 *
 * It keeps no state that matters: what it remembers spares it to look again where nothing has changed.
 */
import { Clock, Duration, Effect, Either, Stream } from "effect"
import * as Action from "@voltlake/iceberg/Action"
import { snapshotsToExpire } from "@voltlake/iceberg/Expiry"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { defaultSettings, make as makeStage, type RunnerSettings } from "@voltlake/stage-runner/Stage"
import * as Compaction from "./Compaction.ts"

/** Often enough for some hundred files, and rare enough to leave a stage that catches up alone. */
export const runnerSettings: RunnerSettings = { ...defaultSettings, pollInterval: Duration.minutes(1), backoffMax: Duration.minutes(1) }

/** A partition of which no file has come or gone for so long is at rest. */
const restAfterMs = Duration.toMillis(Duration.hours(1))

interface Watched {
  readonly files: number
  readonly sinceMs: number
  /** What could be merged is. */
  readonly isDone: boolean
}

/** Drops the table's snapshots that its properties say are too old. Answers how many. */
export const expire = Effect.fn("Compactor.expire")(function*(table: TableIdentifier, metadata: TableMetadata) {
  const old = snapshotsToExpire(metadata, yield* Clock.currentTimeMillis)
  if (old.length === 0) return 0
  const ids = old.map((snapshot) => snapshot.snapshotId)
  yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [Action.expire(ids)] }] })
  return ids.length
})

/** Builds the stage over these tables. Holds one engine connection for its scope. */
export const make = Effect.fn("Compactor.make")(function*(tables: ReadonlyArray<TableIdentifier>, settings: Compaction.CompactionSettings) {
  const catalog = yield* Tables
  const connection = yield* (yield* QueryEngine).connect
  const surveyed = new Map<string, bigint | undefined>()
  const watched = new Map<string, Watched>()

  const compact = Effect.fnUntraced(function*(table: TableIdentifier, metadata: TableMetadata) {
    const nowMs = yield* Clock.currentTimeMillis
    let merged = 0
    for (const partition of yield* Compaction.survey(metadata)) {
      const key = `${render(table)} ${partition.specId} ${Compaction.partitionText(metadata, partition)}`
      const before = watched.get(key)
      const isSame = before?.files === partition.files
      const now: Watched = isSame ? before : { files: partition.files, sinceMs: nowMs, isDone: false }
      const isAtRest = now.sinceMs + restAfterMs <= nowMs
      watched.set(key, { ...now, isDone: now.isDone || isAtRest })
      if (now.isDone || partition.files < (isAtRest ? 2 : settings.filesMin)) continue
      merged += (yield* Compaction.compactPartition(connection, table, partition, isAtRest, settings)).length
    }
    return merged
  })

  const maintain = Effect.fnUntraced(function*(table: TableIdentifier) {
    const { metadata } = yield* catalog.load(table)
    const name = render(table)
    const nowMs = yield* Clock.currentTimeMillis
    const isChanged = !surveyed.has(name) || surveyed.get(name) !== metadata.currentSnapshotId
    const hasComeToRest = Array.from(watched.values()).some(({ isDone, sinceMs }) => !isDone && sinceMs + restAfterMs <= nowMs)
    const merged = isChanged || hasComeToRest ? yield* compact(table, metadata) : 0
    surveyed.set(name, metadata.currentSnapshotId)
    return merged + (yield* expire(table, (yield* catalog.load(table)).metadata))
  })

  const step = Effect.gen(function*() {
    // What is wrong with one table keeps none of the others from being maintained.
    const results = yield* Effect.forEach(tables, (table) => Effect.either(maintain(table)))
    const failed = results.find(Either.isLeft)
    if (failed !== undefined) return yield* Effect.fail(failed.left)
    const isIdle = results.every((result) => Either.getOrElse(result, () => 0) === 0)
    return isIdle ? "idle" as const : "advanced" as const
  }).pipe(Effect.withSpan("Compactor.step"))

  return makeStage("compaction", step, Stream.never)
})
