/**
 * Forgets a vehicle: its rows leave all tables, and the snapshots that still had them are dropped, so that their files are deleted once the grace period
 * is over. Gold follows silver. Done again it changes nothing; where it was interrupted, doing it again ends it.
 *
 * Not covered: records that the log still holds (they go by the log's own retention, and are not read again), events that come later, and copies that
 * others made.
 */
import { Duration, Effect, Schedule, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { namesVehicleSql } from "@voltlake/domain/DecodeSql"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { lakeTables, qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as Expression from "@voltlake/iceberg/Expression"
import { mainBranch, positionTag } from "@voltlake/iceberg/Snapshot"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
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

const checkReferences = Effect.fnUntraced(function*({ dropReferences }: Request) {
  if (dropReferences) return
  const found = yield* Effect.forEach(lakeTables, (contract) =>
    Effect.map(LakeTables.ensure(contract), ({ metadata }) => othersReferences(metadata).map((name) => `${name} of ${qualifiedName(contract)}`)))
  if (found.flat().length > 0) return yield* new ForgetRefused({ references: found.flat() })
})

/** Manifests without the bounds of files that are gone, then only the snapshot that has them. Answers how many snapshots went. */
const dropSnapshots = Effect.fnUntraced(function*(contract: TableContract) {
  const table = LakeTables.identifier(contract)
  if ((yield* LakeTables.ensure(contract)).metadata.currentSnapshotId === undefined) return 0
  const rewritten = yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [Action.rewriteManifests] }] })
  const { metadata, snapshot } = rewritten.tables[0]!
  const old = metadata.snapshots.filter((one) => one.sequenceNumber < snapshot!.sequenceNumber).map((one) => one.snapshotId)
  const references = othersReferences(metadata).map(Action.removeReference)
  yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [...references, Action.expire(old)] }] })
  return old.length
})

const silverWait = Schedule.spaced(Duration.millis(200)).pipe(Schedule.intersect(Schedule.recurs(75)))

/** A batch that silver read from bronze before the removal may be committed after it. Where no silver runs there is none. */
const untilSilverHasRead = Effect.fnUntraced(function*(bronze: Position.Position) {
  const hasRead = Effect.map(LakeTables.load(telemetryClean), ({ progress }) => Position.reached(Progress.position(progress), bronze))
  yield* Effect.repeat(hasRead, { until: (has) => has, schedule: silverWait })
})

export const run = Effect.fn("Forget.run")(function*(request: Request) {
  const { dryRun, vehicleId } = request
  yield* checkReferences(request)
  const all = conditions(vehicleId)
  const removed = yield* Removal.run({ conditions: all, dryRun, scope: { type: "vehicle" } })
  if (dryRun) return { removed, snapshotsDropped: 0 } satisfies Forgotten
  yield* untilSilverHasRead(Progress.position((yield* LakeTables.load(telemetryRaw)).progress))
  const since = all.map((condition, index) => ({ ...condition, afterSequence: removed[index]!.readAt }))
  const meanwhile = yield* Removal.run({ conditions: since, dryRun, scope: { type: "vehicle" } })
  const dropped = yield* Effect.forEach(lakeTables, dropSnapshots)
  return {
    removed: removed.map((one, index) => ({ ...one, rows: one.rows + meanwhile[index]!.rows, files: one.files + meanwhile[index]!.files })),
    snapshotsDropped: dropped.reduce((sum, count) => sum + count, 0)
  } satisfies Forgotten
})
