/** A lake as in StageLake, with gold in a real PostgreSQL that a test file shares: each test begins with {@link reset}. */
import { SqlClient } from "@effect/sql"
import { Effect, Layer } from "effect"
import * as GoldTables from "@voltlake/gold/GoldTables"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as StageLake from "./StageLake.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** For a test file. */
export const postgres = TestPostgres.migrated([...OpsEvents.migrations, ...GoldTables.migrations])

export const reset = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.all([
    sql`TRUNCATE gold_vehicle_minute_metrics, gold_fleet_minute_metrics, vehicle_signal_latest, lake.gold_model, lake.gold_model_state, ops.events`,
    sql`UPDATE lake.gold_progress SET progress = '{}', silver_epoch = 0, silver_removal = '', minutes_from = NULL`
  ], { discard: true }))

/** Runs a test over a lake of its own. */
export const fresh = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.zipRight(reset, effect), Layer.fresh(StageLake.durable))

/** Everything in the log goes through bronze, silver and gold. */
export const fill = Effect.zipRight(StageLake.fillSilver, StageLake.inProcess(StageLake.drain(StageLake.gold())))
