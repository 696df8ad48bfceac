/** Rows of some units of a model, computed anew from silver's rows below a position. */
import { Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { grainLength } from "@voltlake/domain/GoldModel"
import type * as Position from "@voltlake/domain/Position"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as Expression from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { boundSql, sourceName } from "./ModelCheck.ts"
import type { CheckedModel } from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"
import { engineType } from "./RowsBetween.ts"

export interface SilverBelow {
  readonly silver: LakeTables.Loaded
  /** The offsets whose rows count. */
  readonly below: ReadonlyArray<Position.OffsetRange>
}

const computeDay = Effect.fnUntraced(function*(
  connection: Connection,
  { model }: CheckedModel,
  { below, silver }: SilverBelow,
  { firstUs, lastUs }: ModelUnits.TouchedDay,
  target: string
) {
  const [from, end] = [firstUs - model.lookback, lastUs + grainLength(model.grain)]
  const matters = Expression.and(Expression.test("event_ts", ">=", from), Expression.test("event_ts", "<", end))
  const { files } = yield* Scan.plan(silver.metadata, { filter: matters })
  const relation = yield* ReadSql.relation(LakeTables.schemaOf(telemetryClean), silver.metadata, files)
  const own = ModelUnits.ownColumns(model).map(quoted)
  const isOfUnits = own.length === 0
    ? ""
    : ` AND (${own.join(", ")}) IN (SELECT (${own.join(", ")}) FROM ${ModelUnits.unitsTable} WHERE bucket_us BETWEEN ${firstUs} AND ${lastUs})`
  const rows = ModelUnits.sourceRows(relation, `epoch_us(event_ts) >= ${from} AND epoch_us(event_ts) < ${end} AND (${SnapshotSource.inRanges(below)})${isOfUnits}`)
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${rows}`)
  const isOfDay = `epoch_us(r.${quoted(model.time)}) BETWEEN ${firstUs} AND ${lastUs}`
  yield* connection.run(`INSERT INTO ${target} SELECT * FROM (${boundSql(model)}) AS r WHERE ${isOfDay} AND ${ModelUnits.isTouched(model, "r")}`)
}, Effect.scoped)

/** Makes the model's rows of the units in `ModelUnits.unitsTable` a table. Silver is read day by day, only for what matters for the units. */
export const compute = Effect.fn("UnitRows.compute")(function*(connection: Connection, checked: CheckedModel, silver: SilverBelow, target: string) {
  const columns = checked.columns.map(({ name, type }) => `${quoted(name)} ${engineType(type)}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${target} (${columns.join(", ")})`)
  for (const day of yield* ModelUnits.days(connection)) yield* computeDay(connection, checked, silver, day, target)
})
