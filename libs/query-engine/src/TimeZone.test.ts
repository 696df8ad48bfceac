import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { join } from "node:path"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "./DuckDbQueryEngine.ts"
import { QueryEngine } from "./QueryEngine.ts"

it.scopedLive("takes times for UTC's, wherever the machine stands", () =>
  Effect.gen(function*() {
    const before = process.env["TZ"]
    yield* Effect.acquireRelease(
      Effect.sync(() => (process.env["TZ"] = "America/New_York")),
      () => Effect.sync(() => before === undefined ? delete process.env["TZ"] : (process.env["TZ"] = before))
    )
    const folder = yield* temporaryFolder
    const rows = Effect.scoped(Effect.flatMap(QueryEngine, (engine) =>
      Effect.flatMap(engine.connect, (connection) =>
        connection.rows("SELECT epoch_us(make_timestamptz(0)::TIMESTAMP) AS us, date_trunc('day', TIMESTAMPTZ '2025-03-01 00:30:00Z')::VARCHAR AS day"))))
    const layer = DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "128MB", threads: 1 })
    expect(yield* Effect.provide(rows, layer)).toEqual([{ us: 0n, day: "2025-03-01 00:00:00+00" }])
  }))
