/**
 * An operator's word that rows which are missing from a table were removed on purpose, by another engine or by hand: they count as removed from then on.
 * The number is the operator's too: what is missing besides must not pass with it.
 */
import { Clock, Effect, Either, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import * as Removals from "@voltlake/domain/Removals"
import { qualifiedName, type TableContract } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { TableMoved } from "./RecoverPosition.ts"

/** What is missing is not what the operator says. Nothing was changed. */
export class AcknowledgeRefused extends Schema.TaggedError<AcknowledgeRefused>()("AcknowledgeRefused", { table: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.table}: ${this.reason}. Nothing was changed; \`voltlake verify\` says what differs.`
  }
}

/** Rows that the counters lead to and that are not there, by partition. */
export const missing = Effect.fn("Acknowledge.missing")(function*(contract: TableContract, { metadata, progress, removals }: LakeTables.Loaded) {
  const connection = yield* (yield* QueryEngine).connect
  const relation = yield* SnapshotSource.all(contract, metadata)
  const rows = yield* connection.rows(`SELECT topic, "partition", count(*) AS rows FROM ${relation} GROUP BY ALL`)
  const there = new Map(rows.map((row) =>
    [Position.key({ topic: String(row["topic"]), partition: Number(row["partition"]) }), BigInt(row["rows"] as bigint)] as const))
  return new Map(Array.from(progress, ([key, partition]) =>
    [key, partition[LakeTables.rowCounter(contract)] - (removals.rows.get(key) ?? 0n) - (there.get(key) ?? 0n)] as const))
}, Effect.scoped)

/** Answers how many rows count as removed from now on. */
export const run = Effect.fn("Acknowledge.run")(function*(contract: TableContract, rows: bigint) {
  const table = yield* LakeTables.load(contract)
  const refused = (reason: string) => new AcknowledgeRefused({ table: qualifiedName(contract), reason })
  const gone = yield* missing(contract, table)
  const tooMany = Array.from(gone).find(([, count]) => count < 0n)
  if (tooMany !== undefined) return yield* refused(`${tooMany[0]} has ${-tooMany[1]} rows more than were ever written to it`)
  const total = Removals.total(gone)
  if (total !== rows) return yield* refused(`${total} rows are missing, not ${rows}`)
  if (total === 0n && ForeignRemoval.unacknowledged(table.metadata).length === 0) return yield* refused("no row is missing, and no other engine removed any")
  const commitId = yield* Transaction.newCommitId
  const atMs = yield* Clock.currentTimeMillis
  yield* Transaction.commit<TableMoved | LakeTables.ProgressDamaged>({
    commitId,
    changes: [{
      table: LakeTables.identifier(contract),
      actions: [Action.append([])],
      summary: (metadata: TableMetadata) =>
        metadata.currentSnapshotId === table.metadata.currentSnapshotId
          ? Either.right({
            ...LakeTables.removalsSummary(Removals.add(table.removals, { id: commitId, scope: { type: "any" }, atMs, removed: gone })),
            ...ForeignRemoval.summary([])
          })
          : Either.left(new TableMoved({ table: qualifiedName(contract) }))
    }]
  })
  return total
})
