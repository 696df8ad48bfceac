/**
 * What is measured of stages, all of them alike, in Effect's own metrics: names as Prometheus has them, `lake_stage_<noun>_<unit>`, the stage as a label.
 */
import { Clock, Effect, Metric, MetricBoundaries } from "effect"

const commits = Metric.counter("lake_stage_commits_total", { description: "Commits of the stage by this process", incremental: true })
const rows = Metric.counter("lake_stage_rows_total", { description: "Rows that the stage wrote by this process", incremental: true, bigint: true })
const offsets = Metric.counter("lake_stage_offsets_total", {
  description: "Offsets that the stage read and committed by this process",
  incremental: true,
  bigint: true
})
const lag = Metric.gauge("lake_stage_lag_offsets", { description: "Offsets of this process's partitions not committed yet, as of the last step", bigint: true })
const failures = Metric.counter("lake_stage_failures_total", { description: "Steps that failed, by the error's name", incremental: true })
const lastCommit = Metric.gauge("lake_stage_last_commit_timestamp_seconds", { description: "Time of the last commit, in seconds since 1970" })
const states = Metric.gauge("lake_stage_state", { description: "1 for the state that the stage is in, 0 for the others" })
const stepSeconds = Metric.histogram(
  "lake_stage_step_duration_seconds",
  MetricBoundaries.fromIterable([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]),
  "How long steps took, those that found nothing among them"
)

const of = <Type, In, Out>(metric: Metric.Metric<Type, In, Out>, stage: string) => Metric.tagged(metric, "stage", stage)

const allStates = ["running", "waiting", "standby", "stopped"] as const

export const state = (stage: string, current: (typeof allStates)[number]): Effect.Effect<void> =>
  Effect.forEach(
    allStates,
    (one) => Metric.set(Metric.tagged(of(states, stage), "state", one), one === current ? 1 : 0),
    { discard: true }
  )

/** Measures the step. */
export const timed = <A, E, R>(stage: string, step: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const startMs = yield* Clock.currentTimeMillis
    const result = yield* step
    yield* Metric.update(of(stepSeconds, stage), ((yield* Clock.currentTimeMillis) - startMs) / 1000)
    return result
  })

export const committed = (stage: string): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMs) =>
    Effect.zipRight(Metric.increment(of(commits, stage)), Metric.set(of(lastCommit, stage), nowMs / 1000)))

export const failed = (stage: string, kind: string): Effect.Effect<void> => Metric.increment(Metric.tagged(of(failures, stage), "kind", kind))

/** What a stage has found to do: offsets between its position and its source's end. Called by the stage, which alone knows. */
export const found = (stage: string, waiting: bigint): Effect.Effect<void> => Metric.set(of(lag, stage), waiting)

/** What a commit of the stage held, and what was left. Called by the stage, which alone knows. */
export const counted = (
  stage: string,
  ranges: ReadonlyArray<{ readonly start: bigint; readonly end: bigint; readonly rows: bigint }>,
  waiting: bigint
): Effect.Effect<void> => {
  const read = ranges.reduce((sum, range) => sum + (range.end - range.start), 0n)
  const left = waiting > read ? waiting - read : 0n
  return Effect.all([
    Metric.incrementBy(of(rows, stage), ranges.reduce((sum, range) => sum + range.rows, 0n)),
    Metric.incrementBy(of(offsets, stage), read),
    Metric.set(of(lag, stage), left)
  ], { discard: true })
}
