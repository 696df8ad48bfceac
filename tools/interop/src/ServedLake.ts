/**
 * A small lake as its users have it: `voltlake start` in a process of its own, some hundred events in bronze, silver and gold, and the REST catalog
 * served at a free port, with a token for readers and one for writers.
 */
import { Effect, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { type Row, type Summary, TestLake } from "@voltlake/testing/TestLake"

export interface ServedLake {
  /** What other engines are told. */
  readonly uri: string
  readonly readToken: string
  readonly writeToken: string
  readonly sql: (query: string) => Effect.Effect<ReadonlyArray<Row>>
  /** Of `voltlake sql`. */
  readonly count: (table: string, where?: string) => Effect.Effect<number>
  /** Sends so many made-up lines, none of which was sent before, and waits until they are in gold; answers what became of them. */
  readonly send: (lines: number) => Effect.Effect<Summary>
}

const shares = { copies: 0.05, malformed: 0.05 }

const newToken = () => randomBytes(24).toString("base64url")

/** With this many lines in it, and with settings of its own where given. */
export const start = Effect.fn("ServedLake.start")(function*(
  lines: number,
  settings: Readonly<Record<string, string>> = {}
): Effect.fn.Return<ServedLake, never, Scope.Scope> {
  const [readToken, writeToken] = [newToken(), newToken()]
  const lake = yield* Effect.acquireRelease(
    Effect.promise(() => TestLake.make({ env: { ...settings, CATALOG_READ_TOKEN: readToken, CATALOG_WRITE_TOKEN: writeToken } })),
    (made) => Effect.promise(() => made.close())
  )
  const random = SeededRandom.make(7)
  let sent = 0
  const send = (count: number) =>
    Effect.promise(async () => {
      sent += 1
      const text = TelemetryLines.make(random, count, shares).lines.join("\n")
      return lake.replay([await lake.file(`events-${sent}.ndjson`, text)])
    })
  yield* send(lines)
  const address = yield* Effect.promise(() => lake.start(["--source", "none"]).address())
  const sql = (query: string) => Effect.promise(() => lake.sql(query))
  const count = (table: string, where = "true") => Effect.map(sql(`SELECT count(*)::INT AS rows FROM ${table} WHERE ${where}`), ([row]) => Number(row!["rows"]))
  return { uri: `${address}/catalog`, readToken, writeToken, sql, count, send }
})
