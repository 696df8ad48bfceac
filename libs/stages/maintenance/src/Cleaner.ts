/**
 * Deletes files that no table names any more, a grace period after they stopped being named: old metadata, manifest lists of dropped snapshots,
 * manifests that were merged. Readers that planned before have that long to finish.
 *
 * Runs like a stage, beside readers and writers; several at once do no harm, since deleting a file twice is deleting it once.
 */
import { Config, Duration, Effect, Stream } from "effect"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { defaultSettings, make as makeStage, type Outcome, type RunnerSettings } from "@voltlake/stage-runner/Stage"

export interface CleanerSettings {
  readonly gracePeriod: Duration.Duration
}

export const settingsConfig: Config.Config<CleanerSettings> = Config.all({
  gracePeriod: Config.duration("MAINTENANCE_GRACE_PERIOD").pipe(
    Config.withDefault(Duration.hours(1)),
    Config.withDescription("How long a file is kept after no table names it any more; longer than any reader takes")
  )
})

/** How often it looks for files to delete. */
export const runnerSettings: RunnerSettings = { ...defaultSettings, pollInterval: Duration.minutes(1) }

const deletesAtOnce = 8

export const make = Effect.fn("Cleaner.make")(function*(settings: CleanerSettings) {
  const catalog = yield* Catalog
  const store = yield* ObjectStore

  const remove = (location: string) => {
    const key = store.keyOf(location)
    // A location elsewhere is another store's: not ours to delete.
    return key === undefined ? Effect.void : store.delete(key).pipe(
      // One that can never be deleted must not keep all others.
      Effect.catchIf((error) => !error.retryable, (error) =>
        Effect.annotateLogs(Effect.logError("a file that no table names cannot be deleted, it is left"), { location, reason: error.reason }))
    )
  }

  const step = Effect.gen(function*() {
    const expired = yield* catalog.expiredFiles(Duration.toMillis(settings.gracePeriod))
    if (expired.length === 0) return "idle" satisfies Outcome
    yield* Effect.forEach(expired, remove, { concurrency: deletesAtOnce, discard: true })
    // Forgotten only when gone: a process killed in between deletes them again.
    yield* catalog.forgetFiles(expired)
    yield* Effect.logDebug("deleted files that no table names").pipe(Effect.annotateLogs({ files: expired.length }))
    return "advanced" satisfies Outcome
  }).pipe(Effect.withSpan("Cleaner.step"))

  return makeStage("maintenance", step, Stream.never)
})
