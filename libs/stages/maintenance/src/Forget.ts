/**
 * Forgets a vehicle: its rows leave all tables, and the snapshots that still had them are dropped, so that their files are deleted once the grace period
 * is over. Gold follows silver. Done again it changes nothing; where it was interrupted, doing it again ends it.
 *
 * Not covered: records that the log still holds (they go by the log's own retention, and are not read again), events that come later, and copies that
 * others made.
 */
import { Effect, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { namesVehicleSql } from "@voltlake/domain/DecodeSql"
import { lakeTables, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as Expression from "@voltlake/iceberg/Expression"
import { mainBranch, positionTag } from "@voltlake/iceberg/Snapshot"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { literal } from "@voltlake/query-engine/SqlText"
import * as Removal from "./Removal.ts"

/** Tags and branches may keep rows of the vehicle. Nothing was changed. */
export class ForgetRefused extends Schema.TaggedError<ForgetRefused>()("ForgetRefused", { references: Schema.Array(Schema.String) }) {
  override get message() {
    return `tags or branches keep snapshots that may hold rows of the vehicle: ${this.references.join(", ")}. ` +
      "With --drop-references they are dropped too; `voltlake tables tag TABLE NAME --remove` drops one."
  }
}

export interface Request {
  readonly vehicleId: string
  /** Tags and branches of the lake's own tables go, whatever they were made for. */
  readonly dropReferences: boolean
  readonly dryRun: boolean
}

export interface Forgotten {
  readonly removed: ReadonlyArray<Removal.Removed>
  readonly snapshotsDropped: number
}

const conditions = (vehicleId: string): ReadonlyArray<Removal.Condition> => [
  { contract: telemetryRaw, filter: Expression.everything, sql: namesVehicleSql(literal(vehicleId)) },
  { contract: telemetryClean, filter: Expression.test("vehicle_id", "=", vehicleId), sql: `vehicle_id = ${literal(vehicleId)}` },
  { contract: telemetryRejected, filter: Expression.everything, sql: namesVehicleSql(literal(vehicleId)) }
]

const othersReferences = (metadata: TableMetadata) => Object.keys(metadata.refs).filter((name) => name !== mainBranch && name !== positionTag)

/** The lake's own tables, and gold's, which are made from them. */
const allTables = Effect.gen(function*() {
  yield* Effect.forEach(lakeTables, LakeTables.ensure, { discard: true })
  const listed = yield* (yield* Catalog).list
  return [...lakeTables.map(LakeTables.identifier), ...listed.filter(({ namespace }) => namespace === "gold")]
})

const checkReferences = Effect.fnUntraced(function*({ dropReferences }: Request) {
  if (dropReferences) return
  const tables = yield* Tables
  const found = yield* Effect.forEach(yield* allTables, (table) =>
    Effect.map(tables.load(table), ({ metadata }) => othersReferences(metadata).map((name) => `${name} of ${render(table)}`)))
  if (found.flat().length > 0) return yield* new ForgetRefused({ references: found.flat() })
})

/** Manifests without the bounds of files that are gone, then only the snapshot that has them. Answers how many snapshots went. */
const dropSnapshotsOf = Effect.fnUntraced(function*(table: TableIdentifier, { dropReferences }: Request) {
  if ((yield* (yield* Tables).load(table)).metadata.currentSnapshotId === undefined) return 0
  const rewritten = yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [Action.rewriteManifests] }] })
  const { metadata, snapshot } = rewritten.tables[0]!
  // A tag that somebody made meanwhile is of rows without the vehicle, or holds the expiry up, which says so.
  const references = dropReferences ? othersReferences(metadata).map(Action.removeReference) : []
  const old = metadata.snapshots.filter((one) => one.sequenceNumber < snapshot!.sequenceNumber).map((one) => one.snapshotId)
  yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [...references, Action.expire(old)] }] })
  return old.length
})

/** Takes the rows out of the lake's own tables. Gold follows by itself, live and by batch; then {@link dropSnapshots} ends it. */
export const removeRows = Effect.fn("Forget.removeRows")(function*(request: Request) {
  const { dryRun, vehicleId } = request
  yield* checkReferences(request)
  const all = conditions(vehicleId)
  const removed = yield* Removal.run({ conditions: all, dryRun, scope: { type: "vehicle" }, isFinal: true })
  if (dryRun) return removed
  // What came between the look at the tables and the commit.
  const since = all.map((condition, index) => ({ ...condition, afterSequence: removed[index]!.readAt }))
  const meanwhile = yield* Removal.run({ conditions: since, dryRun, scope: { type: "vehicle" }, isFinal: true })
  return removed.map((one, index): Removal.Removed => ({ ...one, rows: one.rows + meanwhile[index]!.rows, files: one.files + meanwhile[index]!.files }))
})

/** Drops all snapshots but the current ones, of gold's tables too. Answers how many went. */
export const dropSnapshots = Effect.fn("Forget.dropSnapshots")(function*(request: Request) {
  const dropped = yield* Effect.forEach(yield* allTables, (table) => dropSnapshotsOf(table, request))
  return dropped.reduce((sum, count) => sum + count, 0)
})

/** Both, for a lake whose gold tables are no part of the question. */
export const run = Effect.fn("Forget.run")(function*(request: Request) {
  const removed = yield* removeRows(request)
  return { removed, snapshotsDropped: request.dryRun ? 0 : yield* dropSnapshots(request) } satisfies Forgotten
})
