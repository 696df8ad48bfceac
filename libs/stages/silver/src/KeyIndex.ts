/**
 * The keys of all events in silver, so that deduplication is exact without a horizon.
 *
 * A derived table like any other: it holds the position of silver that it covers, and is brought up to silver's own position before each batch,
 * by reading the rows between. So it may be deleted, be old after a crash, or belong to another table, and is then filled again from silver.
 * It lies in a DuckDB file of its own: 16 bytes a key on disk, read through the engine's bounded memory.
 *
 * Not guaranteed: speed for ever. Each batch's anti-join reads all keys, 16 bytes each, so its cost grows with history (see docs/BENCHMARKS.md).
 */
import { FileSystem } from "@effect/platform"
import { Duration, Effect, Either, Schedule } from "effect"
import type * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { dedupKeySql } from "@voltlake/domain/DecodeSql"
import * as Position from "@voltlake/domain/Position"
import { telemetryClean } from "@voltlake/domain/Tables"
import type { Connection, QueryError } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"

/** The table of keys, for anti-joins. Its one column is `dedup_key`. */
export const keysTable = "silver_keys.held_key"
const coverageTable = "silver_keys.coverage"

const attach = Effect.fnUntraced(function*(connection: Connection, path: string) {
  yield* connection.run(`ATTACH ${literal(path)} AS silver_keys`)
  yield* connection.run(`
    CREATE TABLE IF NOT EXISTS ${keysTable} AS SELECT ${dedupKeySql} AS dedup_key FROM (SELECT '' AS vehicle_id, '' AS event_id) WHERE false;
    CREATE TABLE IF NOT EXISTS ${coverageTable} (source VARCHAR, position VARCHAR);
  `)
  // Reads all of it once, as each batch does: a file that is damaged further in shows here, where it can still be made anew.
  yield* connection.rows(`SELECT source, position, (SELECT bit_xor(dedup_key)::VARCHAR FROM ${keysTable}) FROM ${coverageTable}`)
})

/** Another process has the file open: the last holder of silver's lock, on its way out. Its file must be left alone. */
const isHeldElsewhere = (error: QueryError) => error.reason.includes("Could not set lock on file")

const heldFor = Schedule.intersect(Schedule.spaced(Duration.millis(200)), Schedule.recurs(150))

/** Files for the index, at least one: of several processes on one machine each has its own. */
export type Paths = readonly [string, ...ReadonlyArray<string>]

/** A file that is damaged is not worth keeping, since silver holds all of it. */
const openOne = Effect.fnUntraced(function*(connection: Connection, path: string) {
  const fs = yield* FileSystem.FileSystem
  yield* attach(connection, path).pipe(
    Effect.catchIf((error) => !isHeldElsewhere(error), (error) =>
      Effect.logWarning("key index cannot be opened, it is filled again from silver").pipe(
        Effect.annotateLogs({ path, reason: error.message }),
        Effect.zipRight(Effect.ignore(connection.run("DETACH silver_keys"))),
        Effect.zipRight(Effect.ignore(fs.remove(path))),
        Effect.zipRight(Effect.ignore(fs.remove(`${path}.wal`))),
        Effect.zipRight(attach(connection, path))
      )
    )
  )
})

/** Opens the first file that no other process has open, so that a restarted process finds one that is nearly up to date. Waits where all are held. */
export const open = Effect.fn("KeyIndex.open")(function*(connection: Connection, paths: Paths) {
  // An attached file is the whole engine's, and would outlive the connection.
  yield* Effect.addFinalizer(() => Effect.ignore(connection.run("DETACH silver_keys")))
  yield* Effect.firstSuccessOf(paths.map((path) => openOne(connection, path))).pipe(
    Effect.retry({ while: isHeldElsewhere, schedule: heldFor })
  )
})

type Clean = Pick<LakeTables.Loaded, "metadata" | "removals">

/** What keys are of: this table, as it is since rows were last removed from it. Keys of removed rows are none of its keys. */
const sourceOf = ({ metadata, removals }: Clean) => `${metadata.tableUuid} ${removals.id}`

/** The position that the index covers, or undefined where its keys are not those of this table. */
const coverage = Effect.fnUntraced(function*(connection: Connection, clean: Clean) {
  const row = (yield* connection.rows(`SELECT source, position FROM ${coverageTable}`))[0]
  if (row === undefined || row["source"] !== sourceOf(clean)) return undefined
  return Either.getOrUndefined(Position.decode(String(row["position"])))
})

const cover = (clean: Clean, position: Position.Position) =>
  `DELETE FROM ${coverageTable}; INSERT INTO ${coverageTable} VALUES (${literal(sourceOf(clean))}, ${literal(Position.encode(position))});`

const inTransaction = (connection: Connection, sql: string) =>
  connection.run(`BEGIN; ${sql} COMMIT;`).pipe(Effect.tapError(() => Effect.ignore(connection.run("ROLLBACK"))))

/**
 * Brings the index to silver's position. Does nothing where it is there; adds what silver has more; begins anew where it is ahead of silver
 * (the table was rewound), belongs to another table, or rows were removed.
 */
export const catchUp = Effect.fn("KeyIndex.catchUp")(function*(connection: Connection, clean: Clean, position: Position.Position) {
  const known = yield* coverage(connection, clean)
  if (known !== undefined && Position.equals(known, position)) return
  const usable = known !== undefined && Position.reached(position, known)
  const from = usable ? known : Position.empty
  const ranges = Array.from(position, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? 0n, end }))
  yield* Effect.logDebug("key index catches up with silver").pipe(Effect.annotateLogs({ fromScratch: !usable }))
  yield* Effect.scoped(Effect.gen(function*() {
    const rows = yield* SnapshotSource.range(telemetryClean, clean.metadata, from, ranges)
    // One transaction: an index that is emptied and still says what it covered would let copies through.
    const empty = usable ? "" : `DELETE FROM ${keysTable};`
    yield* inTransaction(connection, `${empty} INSERT INTO ${keysTable} SELECT ${dedupKeySql} FROM ${rows}; ${cover(clean, position)}`)
  }))
})

const addedTable = "silver_key_added"

/**
 * Adds what silver got after `from`, where the index is, up to `to`. Answers a relation of the keys that were added, with the column `dedup_key`:
 * good until the next call.
 */
export const addSince = Effect.fn("KeyIndex.addSince")(function*(
  connection: Connection,
  clean: Clean,
  from: Position.Position,
  to: Position.Position
) {
  const ranges = Array.from(to, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? 0n, end }))
  yield* Effect.scoped(Effect.gen(function*() {
    const rows = yield* SnapshotSource.range(telemetryClean, clean.metadata, from, ranges)
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${addedTable} AS SELECT ${dedupKeySql} AS dedup_key FROM ${rows}`)
  }))
  yield* add(connection, clean, addedTable, to)
  return addedTable
})

/** Adds the keys of rows that were just committed. `relation` has the column `dedup_key`. */
export const add = (connection: Connection, clean: Clean, relation: string, position: Position.Position) =>
  inTransaction(connection, `INSERT INTO ${keysTable} SELECT dedup_key FROM ${relation}; ${cover(clean, position)}`)
