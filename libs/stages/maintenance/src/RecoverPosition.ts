/**
 * Computes a table's position and counters from its rows, where no snapshot that is kept has them any more, and commits them. The two silver tables
 * are recovered together.
 *
 * What it cannot know it counts so that the equations hold: offsets of bronze between its rows as skipped, and rows of bronze that silver holds in
 * neither table as duplicates. Offsets after the last row are read again.
 */
import { Clock, Effect, Either, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import * as Removals from "@voltlake/domain/Removals"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"

/** The table knows its position. */
export class PositionKnown extends Schema.TaggedError<PositionKnown>()("PositionKnown", { table: Schema.String, position: Schema.String }) {
  override get message() {
    return `${this.table} says its position itself: ${this.position}`
  }
}

interface Rows extends Position.TopicPartition {
  readonly first: bigint
  readonly end: bigint
  readonly count: bigint
}

const load = (contract: TableContract) => Effect.flatMap(Tables, (tables) => tables.load(LakeTables.identifier(contract)))

/** Rows of a table by partition; `within` limits the offsets. */
const rowsOf = Effect.fnUntraced(function*(
  connection: Connection,
  contract: TableContract,
  metadata: TableMetadata,
  within?: ReadonlyArray<Position.OffsetRange>
) {
  const relation = yield* SnapshotSource.all(contract, metadata)
  const rows = yield* connection.rows(`SELECT topic, "partition", min("offset") AS first, max("offset") + 1 AS "end", count(*) AS count
    FROM ${relation} ${within === undefined ? "" : `WHERE ${SnapshotSource.inRanges(within)}`} GROUP BY topic, "partition"`)
  return new Map(rows.map((row) => {
    const found: Rows = {
      topic: String(row["topic"]),
      partition: Number(row["partition"]),
      first: BigInt(row["first"] as bigint),
      end: BigInt(row["end"] as bigint),
      count: BigInt(row["count"] as bigint)
    }
    return [Position.key(found), found] as const
  }))
})

/** By the names that rows have: `telemetry_raw~2` is the second log of that topic. */
const lineageOf = (topics: Iterable<string>): LogLineage.LogLineage => {
  const incarnations: Record<string, number> = {}
  for (const topic of topics) {
    const [, name, number] = /^(.+)~(\d+)$/.exec(topic) ?? []
    if (name !== undefined) incarnations[name] = Math.max(incarnations[name] ?? 1, Number(number))
  }
  return new LogLineage.LogLineage({ incarnations, anchors: {} })
}

/** Somebody committed to the table while its rows were counted. Nothing was changed. */
export class TableMoved extends Schema.TaggedError<TableMoved>()("TableMoved", { table: Schema.String }) {
  override get message() {
    return `${this.table} was committed to while its rows were counted. Try again.`
  }
}

/** Only what was counted gets the position: two operators at once must not set it back. */
const commit = Effect.fnUntraced(function*(counted: ReadonlyArray<readonly [TableContract, TableMetadata]>, summary: Record<string, string>) {
  const commitId = yield* Transaction.newCommitId
  // Only rows that are there are counted, so that none has been removed.
  const anew = {
    ...summary,
    ...LakeTables.removalsSummary(Removals.add(Removals.none, { id: commitId, scope: { type: "any" }, atMs: yield* Clock.currentTimeMillis, removed: new Map() })),
    ...ForeignRemoval.summary([])
  }
  yield* Transaction.commit({
    commitId,
    changes: counted.map(([contract, { currentSnapshotId }]) => ({
      table: LakeTables.identifier(contract),
      actions: [Action.append([])],
      summary: (metadata: TableMetadata) =>
        metadata.currentSnapshotId === currentSnapshotId ? Either.right(anew) : Either.left(new TableMoved({ table: qualifiedName(contract) }))
    }))
  })
})

const bronze = Effect.fnUntraced(function*(connection: Connection) {
  const { metadata } = yield* load(telemetryRaw)
  const rows = yield* rowsOf(connection, telemetryRaw, metadata)
  const progress = new Map(Array.from(rows, ([key, { count, end, first }]) => [
    key,
    new Progress.PartitionProgress({ start: first, position: end, rows: count, skipped: end - first - count, lost: 0n, rejected: 0n, duplicates: 0n })
  ]))
  const lineage = lineageOf(Array.from(rows.values(), ({ topic }) => topic))
  yield* commit([[telemetryRaw, metadata]], { ...LakeTables.progressSummary(progress), ...LogLineage.summary(lineage) })
  return progress
})

const silver = Effect.fnUntraced(function*(connection: Connection) {
  const upstream = yield* LakeTables.load(telemetryRaw)
  const [{ metadata: ofClean }, { metadata: ofRejected }] = [yield* load(telemetryClean), yield* load(telemetryRejected)]
  const clean = yield* rowsOf(connection, telemetryClean, ofClean)
  const rejected = yield* rowsOf(connection, telemetryRejected, ofRejected)
  const ranges = Array.from(new Set([...clean.keys(), ...rejected.keys()]), (key): Position.OffsetRange => {
    const [one, other] = [clean.get(key), rejected.get(key)]
    const end = one === undefined || (other !== undefined && other.end > one.end) ? other!.end : one.end
    return { ...Position.parseKey(key), start: upstream.progress.get(key)?.start ?? (one ?? other)!.first, end }
  })
  const read = yield* rowsOf(connection, telemetryRaw, upstream.metadata, ranges)
  const progress = new Map(ranges.map(({ end, start, ...tp }) => {
    const key = Position.key(tp)
    const [rows, rejects, there] = [clean.get(key)?.count ?? 0n, rejected.get(key)?.count ?? 0n, read.get(key)?.count ?? 0n]
    // Rows of bronze may have been removed that silver has.
    const held = there > rows + rejects ? there : rows + rejects
    return [
      key,
      new Progress.PartitionProgress({
        start,
        position: end,
        rows,
        rejected: rejects,
        duplicates: held - rows - rejects,
        skipped: end - start - held,
        lost: 0n
      })
    ] as const
  }))
  yield* commit([[telemetryClean, ofClean], [telemetryRejected, ofRejected]], LakeTables.progressSummary(progress))
  return progress
})

/** Fails with `PositionKnown` where there is nothing to recover. Answers the progress that was computed. */
export const recover = Effect.fn("RecoverPosition.recover")(function*(contract: TableContract) {
  const own = contract === telemetryRaw ? [telemetryRaw] : [telemetryClean, telemetryRejected]
  const known = yield* Effect.forEach(own, (one) =>
    LakeTables.load(one).pipe(
      Effect.map((found) => found.progress),
      Effect.catchTags({ ProgressMissing: () => Effect.succeed(undefined), ProgressDamaged: () => Effect.succeed(undefined) })
    ))
  if (known.every((progress) => progress !== undefined)) {
    return yield* new PositionKnown({ table: own.map(qualifiedName).join(" and "), position: Position.encode(Progress.position(known[0]!)) })
  }
  const connection = yield* (yield* QueryEngine).connect
  return contract === telemetryRaw ? yield* bronze(connection) : yield* silver(connection)
}, Effect.scoped)
