/** How silver's rows count for gold's progress. */
import { Effect } from "effect"
import type * as Position from "@voltlake/domain/Position"
import type * as Progress from "@voltlake/domain/Progress"
import type { Connection } from "@voltlake/query-engine/QueryEngine"

/** How the offsets of these ranges count, where a relation holds all of silver's rows in them. */
export const countRanges = Effect.fnUntraced(function*(connection: Connection, silverRows: string, ranges: ReadonlyArray<Position.OffsetRange>) {
  const counts = yield* connection.rows(`SELECT topic, "partition", count(*) AS rows FROM ${silverRows} GROUP BY ALL`)
  return ranges.map((range): Progress.RangeCounts => {
    const row = counts.find((one) => one["topic"] === range.topic && one["partition"] === range.partition)
    const rows = BigInt((row?.["rows"] ?? 0n) as bigint)
    return { ...range, rows, skipped: range.end - range.start - rows, lost: 0n, rejected: 0n, duplicates: 0n }
  })
})
