/** The API's part of operations: DAGs, runs and events, read from where the orchestrator and all others note them. */
import { HttpApiBuilder } from "@effect/platform"
import type { SqlClient } from "@effect/sql"
import { Clock, Effect } from "effect"
import { LakeApi } from "@voltlake/api/LakeApi"
import { LakeUnavailable } from "@voltlake/api/LakeUnavailable"
import { RunNotFound } from "@voltlake/api/OpsApi"
import type { Dag } from "@voltlake/orchestration/Dag"
import * as RunReport from "@voltlake/orchestration/RunReport"
import * as RunStore from "@voltlake/orchestration/RunStore"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"

/** The DAGs as they are now. */
export type Dags = Effect.Effect<ReadonlyArray<Dag<unknown, unknown>>, { readonly message: string }, SqlClient.SqlClient>

const ofRun = <A, E extends { readonly message: string }, R>(run: string, effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) => (error instanceof RunStore.RunNotFound ? new RunNotFound({ run }) : new LakeUnavailable({ reason: error.message })))

const lake = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) => new LakeUnavailable({ reason: error.message }))

const dagsNow = Effect.fnUntraced(function*(dags: Dags) {
  return yield* RunReport.dags(yield* dags, new Date(yield* Clock.currentTimeMillis))
})

export const handlers = (dags: Dags) =>
  HttpApiBuilder.group(LakeApi, "operations", (group) =>
    group
      .handle("dags", () => lake(dagsNow(dags)))
      .handle("runs", ({ urlParams: { dag, limit } }) => lake(RunReport.runs(dag, limit)))
      .handle("run", ({ path: { run } }) => ofRun(run, RunReport.run(run)))
      .handle("logs", ({ path: { run }, urlParams: { after, limit } }) => ofRun(run, RunReport.logs(run, after, limit)))
      .handle("events", ({ urlParams: { after, all, kind, limit, severity } }) => {
        const wanted = { commits: all, kind, severity }
        const found = after === undefined ? OpsEvents.newest(limit, wanted) : OpsEvents.after(after, limit, wanted)
        return lake(Effect.map(found, (events) => events.map((event) => ({ ...event, at: event.at.toISOString() }))))
      }))
