/**
 * Removals: the rows of a table that were there and have been taken out on purpose, by retention, by forgetting a vehicle, or by another engine
 * and acknowledged. Kept in the summary of each of the table's snapshots beside {@link Progress}, which goes on counting what was ever written.
 *
 * For every topic-partition: rows in the table = counter − removed.
 */
import { Either, Schema } from "effect"

/** What a removal may have touched, for whoever derived something from the table: no more than its rows needs to be derived anew. */
const Scope = Schema.Union(
  /** All rows before an instant (ISO 8601), the beginning of a UTC day, and no others. */
  Schema.Struct({ type: Schema.Literal("before"), time: Schema.String }),
  /** All rows of some vehicle. Which one is not said: it is to be forgotten. */
  Schema.Struct({ type: Schema.Literal("vehicle") }),
  /** Any rows. */
  Schema.Struct({ type: Schema.Literal("any") })
)
export type Scope = typeof Scope.Type

export class Removals extends Schema.Class<Removals>("Removals")({
  /** The commit that removed last; empty before the first. */
  id: Schema.String,
  /** The {@link id} that it found. */
  previous: Schema.String,
  scope: Scope,
  /** When that was, in milliseconds since 1970. */
  atMs: Schema.Number,
  /** Rows removed since the table began, by `Position.key`. */
  rows: Schema.ReadonlyMapFromRecord({ key: Schema.String, value: Schema.BigInt })
}) {}

export const none = new Removals({ id: "", previous: "", scope: { type: "any" }, atMs: 0, rows: new Map() })

/** By `Position.key`. */
export type RowCounts = ReadonlyMap<string, bigint>

export interface Removal {
  /** The commit's. */
  readonly id: string
  readonly scope: Scope
  readonly atMs: number
  readonly removed: RowCounts
}

export const total = (rows: RowCounts): bigint => Array.from(rows.values()).reduce((sum, count) => sum + count, 0n)

/** With the rows that a commit removes besides. */
export const add = (removals: Removals, { atMs, id, removed, scope }: Removal): Removals => {
  const rows = new Map(removals.rows)
  for (const [key, count] of removed) rows.set(key, (rows.get(key) ?? 0n) + count)
  return new Removals({ id, previous: removals.id, scope, atMs, rows })
}

const Text = Schema.parseJson(Removals)

export const encode = (removals: Removals): string => Schema.encodeSync(Text)(removals)

export const decode = (text: string): Either.Either<Removals, Error> =>
  Either.mapLeft(Schema.decodeEither(Text)(text), (error) => new Error(error.message))
