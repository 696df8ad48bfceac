/**
 * Decodes bronze's rows, a batch at a time. Where a whole batch more waits already, it is decoded while the one before is compared, written and
 * committed: those wait for the store and for PostgreSQL, and decoding is half of what silver does.
 *
 * What was decoded ahead is taken only where the next batch starts exactly there. An offset's bytes never change, so nothing else could make it wrong.
 */
import { Effect, Fiber } from "effect"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { decodeSql } from "@voltlake/domain/DecodeSql"
import * as Position from "@voltlake/domain/Position"
import { telemetryRaw } from "@voltlake/domain/Tables"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"

/** A temporary table, so each connection has its own: the columns of `decodeSql`, a row for each of bronze's. */
export const decodedTable = "silver_decoded"

/** A batch in the engine, in `decodedTable` of its connection: good until the next one is asked for. */
export interface Decoded {
  readonly connection: Connection
  readonly ranges: ReadonlyArray<Position.OffsetRange>
}

/** What bronze has for us. */
export interface Source {
  readonly bronze: TableMetadata
  readonly from: Position.Position
  readonly ends: Position.Position
}

const endsOf = (ranges: ReadonlyArray<Position.OffsetRange>) => Position.make(ranges.map((range) => [range, range.end] as const))

/** Whether the ranges are the next ones to read. */
const continues = (ranges: ReadonlyArray<Position.OffsetRange>, { ends, from }: Source) =>
  ranges.every((range) => range.start === (Position.get(from, range) ?? 0n) && range.end <= (Position.get(ends, range) ?? 0n))

/** Holds two engine connections for its scope: while one has the batch under way, the next is decoded in the other. */
export const make = Effect.fn("Decoder.make")(function*(batchRowsMax: number) {
  const engine = yield* QueryEngine
  const scope = yield* Effect.scope
  const connections = [yield* engine.connect, yield* engine.connect] as const
  let turn: 0 | 1 = 0

  const decode = Effect.fnUntraced(function*({ connection, ranges }: Decoded, source: Source) {
    // The files of the rows are held until they are read.
    yield* Effect.scoped(Effect.flatMap(SnapshotSource.range(telemetryRaw, source.bronze, source.from, ranges), (rows) =>
      connection.run(`CREATE OR REPLACE TEMP TABLE ${decodedTable} AS ${decodeSql(rows)}`)))
  })
  let ahead: { readonly batch: Decoded; readonly fiber: Fiber.Fiber<void, Effect.Effect.Error<ReturnType<typeof decode>>> } | undefined

  const planned = (source: Source): Decoded => ({
    connection: connections[turn],
    ranges: Position.planRanges(source.from, source.ends, batchRowsMax)
  })

  const takeAhead = Effect.fnUntraced(function*(source: Source) {
    if (ahead === undefined) return undefined
    const { batch, fiber } = ahead
    const isNext = continues(batch.ranges, source)
    const exit = yield* isNext ? Fiber.await(fiber) : Fiber.interrupt(fiber)
    ahead = undefined
    if (!isNext) return undefined
    yield* exit
    return batch
  })

  /** The next batch, or undefined where bronze has nothing. */
  const next = Effect.fn("Decoder.next")(function*(source: Source) {
    let batch = yield* takeAhead(source)
    if (batch === undefined) {
      batch = planned(source)
      if (batch.ranges.length === 0) return undefined
      yield* decode(batch, source)
    }
    turn = batch.connection === connections[0] ? 1 : 0
    const rest = { ...source, from: Position.max(source.from, endsOf(batch.ranges)) }
    if (Position.lag(rest.from, rest.ends) >= BigInt(batchRowsMax)) {
      const following = planned(rest)
      ahead = { batch: following, fiber: yield* Effect.forkIn(decode(following, rest), scope) }
    }
    return batch
  })

  return { connection: connections[0], next }
})
