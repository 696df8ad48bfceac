/**
 * Compaction as a stage: looks at the lake's tables every minute, merges where small files have come together, and drops snapshots whose time is over.
 *
 * It keeps no state that matters: what it remembers spares it to look again where nothing has changed.
 */
import { Cause, Clock, Duration, Effect, Either, Stream } from "effect"
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

/** Others are at it all the time, or have not made the table yet. */
const passingTags: ReadonlyArray<unknown> = ["CommitConflict", "TableNotFound"]

/** The stage waits and tries again, as after a fault of the outside. All else is for somebody to act on. */
const isPassing = (error: unknown): boolean =>
  typeof error === "object" && error !== null &&
  (("retryable" in error && error.retryable === true) || ("_tag" in error && passingTags.includes(error._tag)))

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
    const merged = yield* Effect.either(isChanged || hasComeToRest ? compact(table, metadata) : Effect.succeed(0))
    if (Either.isRight(merged)) surveyed.set(name, metadata.currentSnapshotId)
    // A table whose files cannot be merged must not keep its snapshots for ever besides.
    const expired = yield* expire(table, (yield* catalog.load(table)).metadata)
    return expired + (yield* merged)
  })

  const hindrances = new Map<string, string>()

  /** What is wrong with one table keeps none of the others from being maintained: it is told once, and looked at again the next time. */
  const attempt = (table: TableIdentifier) => {
    const name = render(table)
    return maintain(table).pipe(
      Effect.tap(() => Effect.sync(() => hindrances.delete(name))),
      Effect.catchAllCause((cause) => {
        const error = Cause.squash(cause)
        if (Cause.isInterrupted(cause) || isPassing(error)) return Effect.failCause(cause)
        const reason = `${name} is not maintained: ${error instanceof Error ? error.message : String(error)}`
        const isKnown = hindrances.get(name) === reason
        hindrances.set(name, reason)
        const say = isKnown ? Effect.void : Effect.annotateLogs(Effect.logError("a table is not maintained", cause), { table: name })
        return Effect.as(say, 0)
      })
    )
  }

  const step = Effect.gen(function*() {
    const results = yield* Effect.forEach(tables, (table) => Effect.either(attempt(table)))
    const failed = results.find(Either.isLeft)
    if (failed !== undefined) return yield* Effect.fail(failed.left)
    const isIdle = results.every((result) => Either.getOrElse(result, () => 0) === 0)
    return isIdle ? "idle" as const : "advanced" as const
  }).pipe(Effect.withSpan("Compactor.step"))

  return makeStage("compaction", step, Stream.never, Effect.sync(() => Array.from(hindrances.values())))
})
