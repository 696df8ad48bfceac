/** PyIceberg over the REST catalog of a lake on S3, of which it knows neither server nor keys: it is told both by the catalog. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { randomUUID } from "node:crypto"
import { stackEnv } from "@voltlake/testing/RealStack"
import * as Engine from "./Engine.ts"
import * as Installed from "./Installed.ts"
import * as ServedLake from "./ServedLake.ts"

const s3 = stackEnv?.s3
const installed = s3 === undefined ? Either.left("no S3 server") : await Installed.install("pyiceberg")

// versitygw refuses, now and then, the checksums that Arrow sends when it completes an upload.
const checksums = { AWS_REQUEST_CHECKSUM_CALCULATION: "when_required" }

const lakeOnS3 = {
  S3_ENDPOINT: s3?.endpoint ?? "",
  AWS_REGION: s3?.region ?? "",
  AWS_ACCESS_KEY_ID: s3?.accessKeyId ?? "",
  AWS_SECRET_ACCESS_KEY: s3?.secretAccessKey ?? "",
  WAREHOUSE: `${s3?.warehouse}/rest-${randomUUID()}`,
  AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true"
}

describe.skipIf(Either.isLeft(installed))("PyIceberg over the REST catalog of a lake on S3", () => {
  const opened = (settings: Readonly<Record<string, string>>) =>
    Effect.gen(function*() {
      const lake = yield* ServedLake.start(200, { ...lakeOnS3, ...settings })
      const program = yield* installed
      const engine = yield* Engine.start("pyiceberg_rest", { ...program, env: { ...program.env, ...checksums } }, { uri: lake.uri, token: lake.writeToken })
      return { engine, lake }
    })

  it.scopedLive("reads and writes with the keys that the catalog hands out", () =>
    Effect.gen(function*() {
      const { engine, lake } = yield* opened({ CATALOG_PASS_S3_CREDENTIALS: "true" })
      for (const table of ["bronze.telemetry_raw", "silver.telemetry_clean"]) {
        expect([table, yield* engine.call("count", { table })]).toEqual([table, yield* lake.count(table)])
      }
      const made = yield* engine.call<{ readonly location: string }>("make_trips", { namespace: "somebody" })
      expect(made.location).toBe(`${lakeOnS3.WAREHOUSE}/somebody/trips`)
      yield* engine.call("append", { table: "somebody.trips", start: 0, size: 20 })
      expect(yield* engine.call("count", { table: "somebody.trips" })).toBe(20)
      const refused = yield* Effect.flip(engine.call("append_as_they_are", { table: "bronze.telemetry_raw" }))
      expect(refused.reason).toContain("Send events into the log instead")
    }), 120_000)

  it.scopedLive("finds tables, and no way into their files where the catalog keeps its keys", () =>
    Effect.gen(function*() {
      const { engine } = yield* opened({ WAREHOUSE: `${lakeOnS3.WAREHOUSE}-closed` })
      expect(yield* engine.call("tables", { namespace: "bronze" })).toEqual(["bronze.telemetry_raw"])
      const refused = yield* Effect.flip(engine.call("count", { table: "bronze.telemetry_raw" }))
      expect(refused.reason).toMatch(/ACCESS_DENIED|AccessDenied|403|Forbidden|credentials/i)
    }), 120_000)
})
