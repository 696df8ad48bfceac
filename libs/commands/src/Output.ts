/** How commands print: one JSON document, or a table for people. */
import Table from "cli-table3"
import { Console, type Effect } from "effect"

/** Bigints as numbers where a number holds them exactly, otherwise as text. */
const replacer = (_: string, value: unknown) =>
  typeof value === "bigint" ? (Number.isSafeInteger(Number(value)) ? Number(value) : value.toString()) : value

export const jsonText = (value: unknown): string => JSON.stringify(value, replacer)

export const json = (value: unknown): Effect.Effect<void> => Console.log(jsonText(value))

export type Cell = string | number | bigint | boolean | null

const isNumeric = (cell: Cell | undefined) => typeof cell === "number" || typeof cell === "bigint"

export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<Cell>>): Effect.Effect<void> => {
  const out = new Table({
    head: [...head],
    colAligns: head.map((_, index) => (isNumeric(rows[0]?.[index]) ? "right" : "left")),
    style: { head: [], border: [], compact: true }
  })
  for (const row of rows) out.push(row.map((cell) => (cell === null ? "" : String(cell))))
  return Console.log(out.toString())
}
