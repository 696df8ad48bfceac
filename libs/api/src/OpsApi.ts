/**
 * What the API says of operations: DAGs, their runs with tasks, attempts and logs, and the event log. Read-only. `voltlake dag` and `events` tell the same.
 *
 * Times are ISO-8601 in UTC, durations seconds.
 */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { LakeUnavailable } from "./LakeUnavailable.ts"

const Time = Schema.String.annotations({ description: "ISO-8601, UTC" })
const OrNull = Schema.NullOr
const Seconds = OrNull(Schema.Number)

const RunState = Schema.Literal("queued", "running", "succeeded", "failed", "cancelled", "skipped")

export const DagTask = Schema.Struct({
  name: Schema.String,
  after: Schema.Array(Schema.String),
  retries: Schema.Number,
  retryDelaySeconds: Schema.Number,
  timeoutSeconds: Schema.Number
})

export const Dag = Schema.Struct({
  name: Schema.String,
  description: Schema.String,
  /** Cron, in the time zone; null where it runs when somebody asks for it. */
  schedule: OrNull(Schema.String),
  timeZone: OrNull(Schema.String),
  catchUp: OrNull(Schema.Literal("none", "latest")),
  overlap: OrNull(Schema.Literal("skip", "wait")),
  maxActiveRuns: Schema.Number,
  paused: Schema.Boolean,
  /** Null where it is paused, or has no schedule. */
  next: OrNull(Time),
  lastRun: OrNull(Schema.Struct({ id: Schema.String, state: RunState, logicalTime: Time })),
  tasks: Schema.Array(DagTask)
}).annotations({ identifier: "Dag" })

const run = {
  id: Schema.String,
  dag: Schema.String,
  kind: Schema.Literal("scheduled", "manual", "backfill"),
  /** What the run stands for: its tick, or when it was asked for. */
  logicalTime: Time,
  state: RunState,
  reason: OrNull(Schema.String),
  parameters: Schema.Record({ key: Schema.String, value: Schema.String }),
  createdAt: Time,
  startedAt: OrNull(Time),
  endedAt: OrNull(Time),
  seconds: Seconds
}

export const Run = Schema.Struct(run).annotations({ identifier: "Run" })

export const Attempt = Schema.Struct({
  attempt: Schema.Number,
  /** `lost`: its process died before it could say how it ended. */
  state: Schema.Literal("running", "succeeded", "failed", "lost", "cancelled"),
  startedAt: Time,
  endedAt: OrNull(Time),
  seconds: Seconds,
  error: OrNull(Schema.String)
})

export const TaskOfRun = Schema.Struct({
  task: Schema.String,
  state: Schema.Literal("waiting", "running", "succeeded", "failed", "upstream_failed", "cancelled"),
  failures: Schema.Number,
  readyAt: OrNull(Time),
  facts: OrNull(Schema.Record({ key: Schema.String, value: Schema.Union(Schema.String, Schema.Number, Schema.Boolean, Schema.Null) })),
  attempts: Schema.Array(Attempt)
})

export const RunDetails = Schema.Struct({ ...run, tasks: Schema.Array(TaskOfRun) }).annotations({ identifier: "RunDetails" })

export const LogLine = Schema.Struct({
  id: Schema.String,
  task: Schema.String,
  attempt: Schema.Number,
  at: Time,
  level: Schema.String,
  message: Schema.String
}).annotations({ identifier: "LogLine" })

const Severity = Schema.Literal("INFO", "WARNING", "ERROR")

export const Event = Schema.Struct({
  id: Schema.String,
  at: Time,
  severity: Severity,
  kind: Schema.String,
  subject: Schema.String,
  message: Schema.String,
  facts: Schema.Record({ key: Schema.String, value: Schema.Unknown })
}).annotations({ identifier: "Event" })

export class RunNotFound extends Schema.TaggedError<RunNotFound>()("RunNotFound", { run: Schema.String }, HttpApiSchema.annotations({ status: 404 })) {
  override get message() {
    return `there is no run ${this.run}`
  }
}

const limit = (most: number, otherwise: number) =>
  Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, most)), { default: () => otherwise })

const Id = Schema.String.pipe(Schema.pattern(/^\d{1,18}$/)).annotations({ description: "What comes after this id; without it from the first" })

const ofRun = Schema.Struct({ run: Schema.String.annotations({ description: "A run's id" }) })

export const group = HttpApiGroup.make("operations", { topLevel: true })
  .add(
    HttpApiEndpoint.get("dags", "/api/dags")
      .addSuccess(Schema.Array(Dag))
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "All DAGs with their tasks, schedules, policies, next and last runs")
  )
  .add(
    HttpApiEndpoint.get("runs", "/api/runs")
      .setUrlParams(Schema.Struct({ dag: Schema.optional(Schema.String), limit: limit(1000, 20) }))
      .addSuccess(Schema.Array(Run))
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "The newest runs first, of one DAG or of all")
  )
  .add(
    HttpApiEndpoint.get("run", "/api/runs/:run")
      .setPath(ofRun)
      .addSuccess(RunDetails)
      .addError(RunNotFound)
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "A run with its tasks, their attempts and what came of them")
  )
  .add(
    HttpApiEndpoint.get("logs", "/api/runs/:run/logs")
      .setPath(ofRun)
      .setUrlParams(Schema.Struct({ after: Schema.optionalWith(Id, { default: () => "0" }), limit: limit(10_000, 1000) }))
      .addSuccess(Schema.Array(LogLine))
      .addError(RunNotFound)
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "What the run's tasks logged, oldest first")
  )
  .add(
    HttpApiEndpoint.get("events", "/api/events")
      .setUrlParams(Schema.Struct({
        after: Schema.optional(Id),
        limit: limit(1000, 50),
        severity: Schema.optional(Severity.annotations({ description: "This and what is worse" })),
        kind: Schema.optional(Schema.String),
        all: Schema.optionalWith(Schema.BooleanFromString, { default: () => false }).annotations({ description: "Also commits by which all goes on" })
      }))
      .addSuccess(Schema.Array(Event))
      .addError(LakeUnavailable)
      .annotate(OpenApi.Description, "What happened that an operator should know, oldest first: the newest, or what came after an id")
  )
