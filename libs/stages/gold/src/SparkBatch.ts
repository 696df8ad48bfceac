/**
 * Gold by batch on Spark, for more than one machine holds. What is to be computed is decided here as always, and committed here: Spark computes all rows of
 * the wanted days from silver as the run read it, writes them into a table for this run, and says whether they keep what the model promises. Its data files
 * then become the model's in one commit.
 */
import { type CommandExecutor, FetchHttpClient, type FileSystem, HttpClient, HttpClientRequest, type Path } from "@effect/platform"
import { Duration, Effect, Option, Redacted, Schema } from "effect"
import { render } from "@voltlake/iceberg/TableIdentifier"
import * as Scan from "@voltlake/iceberg/Scan"
import { Tables } from "@voltlake/iceberg/Tables"
import type { Engine } from "./BatchEngine.ts"
import { type Computed, datesOf, type Run, type Wanted } from "./BatchWork.ts"
import { bindEmptySource, bindRows, boundSql, rowsName } from "./ModelCheck.ts"
import * as RowCheck from "./RowCheck.ts"
import * as SparkJob from "./SparkJob.ts"
import * as SparkProcess from "./SparkProcess.ts"
import type { SparkSettings } from "./SparkSettings.ts"
import * as SparkSql from "./SparkSql.ts"
import * as SparkStaging from "./SparkStaging.ts"

/** Spark could not work through this catalog, and was not started. */
export class SparkCatalogUnusable extends Schema.TaggedError<SparkCatalogUnusable>()("SparkCatalogUnusable", { uri: Schema.String, reason: Schema.String }) {
  override get message() {
    return `the REST catalog at SPARK_CATALOG_URI=${this.uri} cannot be used: ${this.reason}`
  }
}

const answersWithin = Duration.seconds(10)

/** Whether the catalog is there, is this lake's, and lets us write: it is asked for a change of the run's table that changes nothing. */
const checkCatalog = Effect.fnUntraced(function*({ catalogToken, catalogUri }: SparkSettings, { rows, uuid }: SparkStaging.Staging) {
  const unusable = (reason: string) => new SparkCatalogUnusable({ uri: catalogUri, reason })
  const request = HttpClientRequest.post(`${catalogUri}/v1/namespaces/${rows.namespace}/tables/${rows.name}`).pipe(
    HttpClientRequest.bodyUnsafeJson({ requirements: [{ type: "assert-table-uuid", uuid }], updates: [] }),
    Option.match(catalogToken, { onNone: () => (one) => one, onSome: (token) => HttpClientRequest.bearerToken(Redacted.value(token)) })
  )
  const { status } = yield* Effect.scoped(HttpClient.execute(request)).pipe(
    Effect.timeoutFail({ duration: answersWithin, onTimeout: () => unusable(`it does not answer within ${Duration.format(answersWithin)}`) }),
    Effect.catchTags({
      RequestError: ({ cause, message }) => {
        const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : message
        return unusable(`${reason}. Is the console running?`)
      },
      ResponseError: ({ message }) => unusable(message)
    })
  )
  if (status === 200) return
  if (status === 401 || status === 403) {
    const given = Option.isSome(catalogToken) ? "does not let that token write" : "is not given"
    return yield* unusable(`SPARK_CATALOG_TOKEN ${given} (HTTP ${status}); set it to the console's CATALOG_WRITE_TOKEN`)
  }
  if (status === 404) {
    return yield* unusable(`it has no table ${render(rows)}, which was made a moment ago: it is another lake's, or the URL does not end in /catalog`)
  }
  return yield* unusable(`it answers HTTP ${status} to a change of ${render(rows)}; its log says why`)
})

const compute = Effect.fnUntraced(function*(settings: SparkSettings, run: Run, wanted: Wanted) {
  const { checked, connection } = run
  const { model } = checked
  if (wanted.days.length === 0) return { rows: 0n, removed: "days" } satisfies Computed
  yield* bindEmptySource(connection)
  yield* bindRows(connection, model)
  const refused = ({ reason }: { readonly reason: string }) => new SparkProcess.SparkFailed({ model: model.name, reason })
  const modelSql = yield* Effect.mapError(SparkSql.statement(connection, boundSql(model)), refused)
  const tests = yield* Effect.mapError(Effect.forEach(model.tests, (test) => SparkSql.condition(connection, test, rowsName)), refused)
  const staging = yield* SparkStaging.make(run)
  yield* checkCatalog(settings, staging)
  const job = SparkJob.make(run, wanted, staging, { modelSql, tests }, settings.catalogUri)
  const answer = yield* SparkProcess.run(model.name, settings, job)
  const { metadata } = yield* (yield* Tables).load(staging.rows)
  run.written.push(...(yield* Scan.planFiles(metadata)).map(({ file }) => file))
  const counts = RowCheck.countsOf(answer.counts, model.tests.length)
  const repeated = answer.repeated === null ? undefined : { values: answer.repeated.slice(0, -1), rows: answer.repeated.at(-1) }
  const broken = RowCheck.brokenBy({ ...counts, repeated }, checked, datesOf(wanted.days.map(({ day }) => day)))
  if (broken !== undefined) return yield* broken
  yield* Effect.forEach(wanted.days, () => wanted.onDay, { discard: true })
  return { rows: counts.rows, removed: "days" } satisfies Computed
}, Effect.provide(FetchHttpClient.layer))

export type ComputeError = Effect.Effect.Error<ReturnType<typeof compute>>

/** One job at a time: each has a driver on this machine. Its processes are started by what this effect finds in its context. */
export const make = (settings: SparkSettings) =>
  Effect.gen(function*() {
    const context = yield* Effect.context<CommandExecutor.CommandExecutor | FileSystem.FileSystem | Path.Path>()
    const turn = yield* Effect.makeSemaphore(1)
    const engine: Engine = {
      name: "spark",
      isByDay: true,
      compute: (run, wanted) => turn.withPermits(1)(Effect.provide(compute(settings, run, wanted), context))
    }
    return engine
  })
