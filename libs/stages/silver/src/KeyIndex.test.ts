/** Whatever happens to the index's file, deduplication stays exact: silver holds all keys. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as StageLake from "@voltlake/testing/StageLake"

const { drain, event, fillSilver, inProcess, query, send, silver } = StageLake

const indexPath = Effect.map(StageLake.Folder, (folder) => join(folder, "keys.duckdb"))
const onFile = (act: (path: string) => Promise<unknown>) => Effect.flatMap(indexPath, (path) => Effect.promise(() => act(path)))

/** Changes the index's own tables, as no program of ours would. */
const edit = (sql: string) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    yield* connection.run(`ATTACH '${yield* indexPath}' AS silver_keys`)
    yield* connection.run(sql)
    return yield* connection.rows("SELECT (SELECT count(*) FROM silver_keys.held_key) AS keys, * FROM silver_keys.coverage")
  }))

const ids = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => event({ id: `e${from + at}`, vehicle: `v${(from + at) % 3}` }))

const expectExact = Effect.fnUntraced(function*(keys: number, copies: number) {
  const [row] = yield* query(({ clean }) => `SELECT count(*) AS rows, count(DISTINCT (vehicle_id, event_id)) AS keys FROM ${clean}`)
  expect(row).toEqual({ rows: BigInt(keys), keys: BigInt(keys) })
  const progress = yield* StageLake.progress(telemetryClean)
  expect(Progress.total(progress, "duplicates")).toBe(BigInt(copies))
  const [index] = yield* edit("SELECT 1")
  expect(index).toMatchObject({ keys: BigInt(keys), position: Position.encode(Progress.position(progress)) })
})

const saved = (path: string) => `${path}.saved`

const cases: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown, Effect.Effect.Context<ReturnType<typeof edit>>>]> = [
  ["is deleted", onFile((path) => fs.rm(path))],
  ["is empty", onFile((path) => fs.writeFile(path, ""))],
  ["holds something else", onFile((path) => fs.writeFile(path, "no database at all".repeat(1000)))],
  ["lost its end", onFile(async (path) => fs.truncate(path, Math.floor((await fs.stat(path)).size / 2)))],
  ["has damaged blocks", onFile(async (path) => {
    const bytes = await fs.readFile(path)
    // Behind the three headers, where tables lie.
    for (let at = 3 * 4096; at < bytes.length; at += 512) bytes[at] = bytes[at]! ^ 0xff
    await fs.writeFile(path, bytes)
  })],
  ["is an older copy of itself", onFile((path) => fs.copyFile(saved(path), path))],
  ["is another table's", edit("UPDATE silver_keys.coverage SET source = 'another'; DELETE FROM silver_keys.held_key")],
  ["has no coverage", edit("DELETE FROM silver_keys.coverage")],
  ["has a coverage that cannot be read", edit("UPDATE silver_keys.coverage SET position = '?'")],
  [
    "is ahead of silver",
    edit(`UPDATE silver_keys.coverage SET position = '{"telemetry_raw-0":"1000000"}';
      INSERT INTO silver_keys.held_key SELECT md5_number('9:telemetry' || range) FROM range(100)`)
  ],
  ["knows a partition that silver does not", edit(`UPDATE silver_keys.coverage SET position = '{"telemetry_raw-0":"20","telemetry_raw-7":"1"}'`)],
  ["was made by another version", edit("DROP TABLE silver_keys.coverage; CREATE TABLE silver_keys.coverage (version INTEGER)")
    .pipe(Effect.catchAll(() => Effect.void))]
]

describe("Silver's key index", () => {
  for (const [what, damage] of cases) {
    it.live(`that ${what} is filled again from silver`, () =>
      Effect.gen(function*() {
        yield* send(0, ids(0, 10))
        yield* fillSilver
        yield* onFile((path) => fs.copyFile(path, saved(path)))
        yield* send(0, [...ids(5, 8), ...ids(10, 20)])
        yield* fillSilver
        yield* expectExact(20, 3)
        yield* damage
        // A copy of each event, and some new ones, in two partitions.
        yield* send(0, [...ids(0, 10), ...ids(20, 23)])
        yield* send(1, [...ids(10, 20), ...ids(20, 23)])
        yield* fillSilver
        yield* expectExact(23, 3 + 10 + 13)
      }).pipe(Effect.provide(StageLake.durable)))
  }

  it.live("covers what silver holds after each commit, and is left alone where nothing is new", () =>
    Effect.gen(function*() {
      yield* inProcess(drain(silver()))
      for (let at = 0; at < 3; at++) {
        yield* send(0, ids(at * 4, at * 4 + 4))
        yield* fillSilver
        yield* expectExact((at + 1) * 4, 0)
      }
    }).pipe(Effect.provide(StageLake.durable)))

  it.live("takes in rows that another engine rewrote", () =>
    Effect.gen(function*() {
      yield* send(0, ids(0, 10))
      yield* fillSilver
      yield* onFile((path) => fs.rm(path))
      yield* inProcess(OtherEngine.overwrite(telemetryClean, { rows: (all) => `SELECT * FROM ${all}` }))
      yield* send(0, ids(0, 10))
      yield* fillSilver
      yield* expectExact(10, 10)
    }).pipe(Effect.provide(StageLake.durable)))

  it.live("serves a stage that is made a second time in the same process, without being filled again", () =>
    Effect.gen(function*() {
      yield* send(0, ids(0, 10))
      yield* fillSilver
      yield* inProcess(Effect.gen(function*() {
        yield* Effect.scoped(drain(silver()))
        yield* Effect.scoped(drain(silver()))
      }))
      yield* expectExact(10, 0)
    }).pipe(Effect.provide(StageLake.durable)))
})
