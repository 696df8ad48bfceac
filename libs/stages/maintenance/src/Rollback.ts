/**
 * Makes an earlier snapshot of one of the lake's tables the current one again. The position goes back with it, so reading goes on from there: what comes
 * again are the same offsets with the same bytes. Both silver tables go together, to snapshots of the same position. Gold is rebuilt from silver.
 */
import { Effect, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as Action from "@voltlake/iceberg/Action"
import type { Snapshot } from "@voltlake/iceberg/Snapshot"
import { lineage, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"

/** Going back there would do harm, or cannot be done. Nothing was changed. */
export class RollbackRefused extends Schema.TaggedError<RollbackRefused>()("RollbackRefused", {
  table: Schema.String,
  snapshotId: Schema.BigIntFromSelf,
  reason: Schema.String
}) {
  override get message() {
    return `${this.table} was not rolled back to snapshot ${this.snapshotId}: ${this.reason}`
  }
}

export interface RollbackRequest {
  readonly contract: TableContract
  readonly snapshotId: bigint
  /** The topic that bronze reads. */
  readonly topic: string
  /** Whether to go back to where the log has nothing any more. */
  readonly acceptLoss: boolean
}

export interface RolledBack {
  readonly table: string
  readonly from: bigint
  readonly to: bigint
  /** Offsets that are read again. */
  readonly offsets: bigint
}

const groupOf = (contract: TableContract): ReadonlyArray<TableContract> =>
  contract === telemetryClean || contract === telemetryRejected ? [telemetryClean, telemetryRejected] : [contract]

const at = (metadata: TableMetadata, snapshotId: bigint): TableMetadata => ({ ...metadata, currentSnapshotId: snapshotId })

/** What the log has dropped of what would have to be read again. */
const dropped = Effect.fnUntraced(function*(
  { contract, snapshotId, topic }: RollbackRequest,
  metadata: TableMetadata,
  now: Progress.Progress,
  then: Progress.Progress
) {
  const refused = (reason: string) => new RollbackRefused({ table: qualifiedName(contract), snapshotId, reason })
  const name = LogLineage.nameOf(yield* LogLineage.of(metadata), topic)
  const nameThen = LogLineage.nameOf(yield* LogLineage.of(at(metadata, snapshotId)), topic)
  if (name !== nameThen) {
    return yield* refused(`its rows came from the log ${nameThen}, which was given up for ${name} since: its offsets cannot be read again`)
  }
  const bounds = yield* (yield* EventLog).partitions(topic)
  return bounds.flatMap((partition) => {
    const key = Position.key({ topic: name, partition: partition.partition })
    const from = then.get(key)?.position ?? now.get(key)?.start
    return from !== undefined && from < partition.first ? [{ key, from, first: partition.first }] : []
  })
})

/** Rows of bronze that silver has read between two of its positions, and that are there no more. */
const goneFromBronze = Effect.fnUntraced(function*(now: Progress.Progress, then: Progress.Progress) {
  const connection = yield* (yield* QueryEngine).connect
  const bronze = yield* LakeTables.load(telemetryRaw)
  const at = Progress.position(now)
  // Bronze that was rewound itself reads from the log what silver will read of it.
  if (!Position.reached(Progress.position(bronze.progress), at)) return 0n
  const from = Progress.resume(then, now)
  const ranges = Array.from(at, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? 0n, end }))
  const relation = yield* SnapshotSource.range(telemetryRaw, bronze.metadata, from, ranges)
  const [row] = yield* connection.rows(`SELECT count(*) AS n FROM ${relation}`)
  const read = (progress: Progress.Progress) => (["rows", "rejected", "duplicates"] as const).reduce((sum, counter) => sum + Progress.total(progress, counter), 0n)
  return read(now) - read(then) - BigInt((row?.["n"] ?? 0n) as bigint)
}, Effect.scoped)

/** The newest snapshot, from the current one back, at which the table had this progress. */
const snapshotAt = Effect.fnUntraced(function*(contract: TableContract, metadata: TableMetadata, progress: string) {
  for (const snapshot of lineage(metadata)) {
    const own = yield* LakeTables.progressOf(contract, at(metadata, snapshot.snapshotId))
    if (Progress.encode(own) === progress) return snapshot
  }
  return undefined
})

export const rollback = Effect.fn("Rollback.rollback")(function*(request: RollbackRequest) {
  const { acceptLoss, contract, snapshotId } = request
  const refused = (reason: string) => new RollbackRefused({ table: qualifiedName(contract), snapshotId, reason })
  const tables = yield* Effect.forEach(groupOf(contract), (one) => Effect.map(LakeTables.load(one), (table) => ({ ...table, contract: one })))
  const own = tables.find((table) => table.contract === contract)!
  if (!Array.from(lineage(own.metadata)).some((snapshot: Snapshot) => snapshot.snapshotId === snapshotId)) {
    return yield* refused("it is no ancestor of the current one, or has expired (`voltlake tables snapshots` lists them)")
  }
  const progress = yield* LakeTables.progressOf(contract, at(own.metadata, snapshotId))
  if (contract === telemetryRaw && !acceptLoss) {
    const [loss] = yield* dropped(request, own.metadata, own.progress, progress)
    if (loss !== undefined) {
      return yield* refused(
        `the log holds ${loss.key} from offset ${loss.first} on, and reading would go on at ${loss.from}. ` +
          "With --accept-loss the rows between are given up, and bronze needs BRONZE_ACCEPT_LOSS=true to go on"
      )
    }
  }
  if (contract !== telemetryRaw && !acceptLoss) {
    const missing = yield* goneFromBronze(own.progress, progress)
    if (missing > 0n) {
      return yield* refused(
        `bronze does not hold ${missing} of the rows any more that silver would read again: they were removed, by retention or on purpose. ` +
          "With --accept-loss they are given up"
      )
    }
  }
  const targets = yield* Effect.forEach(tables, ({ contract: one, identifier, metadata, progress: now }) =>
    Effect.gen(function*() {
      const to = one === contract ? snapshotId : (yield* snapshotAt(one, metadata, Progress.encode(progress)))?.snapshotId
      if (to === undefined) return yield* refused(`${qualifiedName(one)}, which goes with it, has no snapshot of the same position any more`)
      const done: RolledBack = {
        table: qualifiedName(one),
        from: metadata.currentSnapshotId ?? to,
        to,
        offsets: Position.lag(Progress.position(progress), Progress.position(now))
      }
      return { identifier, done }
    }))
  yield* Transaction.commit({
    commitId: yield* Transaction.newCommitId,
    changes: targets.map(({ done, identifier }) => ({ table: identifier, actions: [Action.rollbackTo(done.to)] }))
  })
  return targets.map(({ done }) => done)
})
