/**
 * Writes the rows of a relation as data files of a table, one a day and commit, and bounds their number: where rows spread over more days than
 * that, the days with most rows get files of their own and all others share one file under the unpartitioned spec. Readers see no difference
 * (bounds still prune it), and a file with 20,000 days does not become 20,000 files.
 */
import { Effect } from "effect"
import type { TableContract } from "@voltlake/domain/Tables"
import { qualifiedName } from "@voltlake/domain/Tables"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import { currentSchema, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { daySpecId, sortOrderId, unpartitionedSpecId } from "./LakeTables.ts"

export interface DayFilesTarget {
  readonly contract: TableContract
  readonly metadata: TableMetadata
  readonly commitId: string
  /** Most day files of one commit. */
  readonly daysMax: number
  /** The UTC day, since 1970, that all rows are of, where the caller knows. */
  readonly day?: number | undefined
  /** Different each time that rows are written for one commit: its earlier files stay, named by nothing. */
  readonly attempt?: number
  /**
   * `sorted`: the relation's rows come in the table's order already. `unsorted`: they may lie in any, and their files say so. Otherwise they are sorted,
   * which is half of what writing costs.
   */
  readonly rows?: "sorted" | "unsorted"
}

/** Iceberg's name for no order. */
const unsortedId = 0

/** By microseconds: casting a time with a zone to one without asks the engine's calendar, row by row. */
const dayOf = (time: string) => `date_diff('day', DATE '1970-01-01', make_timestamp(epoch_us(${time}))::DATE)::INTEGER`

const day = ({ dayOf: column }: TableContract) => dayOf(quoted(column))

/** The days that the rows are of, those of most rows first. Most batches are of one, which the first and last time tell. */
const daysOf = Effect.fnUntraced(function*(connection: Connection, contract: TableContract, relation: string) {
  const column = quoted(contract.dayOf)
  const bounds = yield* connection.rows(`SELECT ${dayOf(`min(${column})`)} AS first, ${dayOf(`max(${column})`)} AS last FROM ${relation}`)
  const { first, last } = bounds[0]!
  if (first === null) return []
  if (first === last) return [{ day: first }]
  return yield* connection.rows(
    `SELECT ${day(contract)} AS day, count(*) AS rows FROM ${relation} GROUP BY 1 ORDER BY 2 DESC, 1`
  )
})

/** `relation` has the table's columns by name (and may have others). Files are staged: no reader sees them before they are committed. */
export const write = Effect.fn("DayFiles.write")(function*(connection: Connection, relation: string, target: DayFilesTarget) {
  const { contract, metadata, commitId, daysMax } = target
  const days = target.day === undefined ? yield* daysOf(connection, contract, relation) : [{ day: target.day }]
  const own = days.slice(0, days.length > daysMax ? daysMax - 1 : daysMax).map((row) => Number(row["day"]))
  // In the table's own terms: others may have named a column anew. One that they added is left out, which readers take for NULL.
  const current = currentSchema(metadata)
  const schema = { ...current, fields: current.fields.filter(({ id }) => contract.columns.some((column) => column.id === id)) }
  const columns = schema.fields.map(({ id, name }) => `${quoted(contract.columns.find((column) => column.id === id)!.name)} AS ${quoted(name)}`).join(", ")
  const order = target.rows !== undefined ? "" : `ORDER BY ${contract.orderBy.map((name) => `"${name}"`).join(", ")}`
  const stage = (where: string, specId: number, partition: ReadonlyArray<number>, index: number) =>
    DataFileWriter.write({
      connection,
      query: `SELECT ${columns} FROM ${relation} WHERE ${where} ${order}`,
      metadata,
      schema,
      specId,
      partition,
      sortOrderId: target.rows === "unsorted" ? unsortedId : sortOrderId,
      commitId,
      index: (target.attempt ?? 0) * (daysMax + 1) + index
    })
  const files: Array<DataFile | undefined> = []
  for (const value of own) {
    const only = days.length === 1 ? "true" : `${day(contract)} = ${value}`
    files.push(yield* stage(only, daySpecId, [value], files.length))
  }
  if (days.length > own.length) {
    yield* Effect.logWarning("rows of many days in one commit, the sparse days share one file").pipe(
      Effect.annotateLogs({ table: qualifiedName(contract), days: days.length, daysMax })
    )
    files.push(yield* stage(own.length === 0 ? "true" : `${day(contract)} NOT IN (${own.join(", ")})`, unpartitionedSpecId, [], files.length))
  }
  return files.filter((file) => file !== undefined)
})
