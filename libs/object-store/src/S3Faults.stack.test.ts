/** The store while requests and answers get lost between it and the server. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Layer, Option } from "effect"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { access, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Condition from "@voltlake/testing/Condition"
import * as FaultProxy from "@voltlake/testing/FaultProxy"
import * as S3TestWarehouse from "@voltlake/testing/S3TestWarehouse"
import { objectStoreContract } from "./ObjectStoreContract.ts"
import { ObjectStore } from "./ObjectStore.ts"
import * as S3ObjectStore from "./S3ObjectStore.ts"
import * as S3Requests from "./S3Requests.ts"
import type { S3Settings } from "./S3Settings.ts"

const mebibyte = 1024 * 1024
const noRetry = { retryBudget: Duration.zero }

/** A warehouse, and a proxy before its server that passes everything on until told otherwise. */
const proxied = (seed: number) =>
  Effect.gen(function*() {
    const test = yield* S3TestWarehouse.make
    const proxy = yield* FaultProxy.make(Option.getOrElse(test.settings.endpoint, () => "https://s3.amazonaws.com"), seed)
    const open = (change: Partial<S3Settings> = {}) =>
      S3ObjectStore.make(test.warehouse, test.cacheFolder, { ...test.settings, endpoint: Option.some(proxy.url), ...change })
    return { ...test, proxy, open }
  })

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake-faults-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

/** A file that a part mixed up or lost would change. */
const numberedFile = (folder: string, name: string, sizeBytes: number) =>
  Effect.promise(async () => {
    const words = new Uint32Array(sizeBytes / 4).map((_, at) => Math.imul(at, 2_654_435_761))
    const path = join(folder, name)
    await writeFile(path, words)
    return path
  })

const digest = (path: string) =>
  Effect.promise(async () => {
    const hash = createHash("sha256")
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
    return hash.digest("hex")
  })

const filesBelow = (folder: string) =>
  Effect.promise(() => readdir(folder, { recursive: true, withFileTypes: true })).pipe(
    Effect.map((entries) => entries.filter((entry) => entry.isFile()).map((entry) => entry.name))
  )

const writes = (method: string) => method === "PUT" || method === "POST"

const faults: ReadonlyArray<readonly [FaultProxy.FaultPlan, Partial<S3Settings>]> = [
  [{ fault: "unavailable", share: 0.3 }, {}],
  [{ fault: "resetBefore", share: 0.3 }, {}],
  [{ fault: "resetAfter", share: 0.3 }, {}],
  [{ fault: "truncate", share: 0.3 }, {}],
  // The answer comes when nobody listens any more.
  [{ fault: "delay", share: 0.1, delayMs: 2000 }, { requestTimeout: Duration.millis(300) }]
]

describe.skipIf(!S3TestWarehouse.isThere)("S3ObjectStore behind a network with faults", () => {
  for (const [at, [plan, change]] of faults.entries()) {
    objectStoreContract(
      `s3, ${plan.share * 100} % of requests meet ${plan.fault}`,
      Layer.scoped(ObjectStore, Effect.gen(function*() {
        const { open, proxy } = yield* proxied(at + 1)
        yield* proxy.plan(plan)
        return yield* open(change)
      }))
    )
  }
})

describe.skipIf(!S3TestWarehouse.isThere)("S3ObjectStore behind a faulty network", () => {
  it.scopedLive("lets exactly one of many writers create a key, though most answers are lost", () =>
    Effect.gen(function*() {
      const { open, proxy } = yield* proxied(7)
      // Long enough that a writer hears something at last.
      const stores = yield* Effect.all(Array.from({ length: 8 }, () => open({ retryBudget: Duration.seconds(40) })))
      for (let round = 0; round < 5; round++) {
        yield* proxy.plan({ fault: "resetAfter", share: 0.6, matches: writes })
        const key = `metadata/v${round}.json`
        const results = yield* Effect.forEach(
          stores,
          (store, writer) => Effect.either(store.putIfAbsent(key, new Uint8Array([writer]))),
          { concurrency: "unbounded" }
        )
        const { harmed } = proxy.counts()
        expect(harmed).toBeGreaterThan(0)
        yield* proxy.plan(undefined)
        const winners = results.flatMap((result, writer) => (Either.isRight(result) ? [writer] : []))
        expect(winners).toHaveLength(1)
        for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("ObjectExists")
        expect(Array.from(yield* stores[0]!.get(key))).toEqual(winners)
      }
    }))

  it.scopedLive("says of a write that broke off that it may have happened, of one that reached nobody that it has not", () =>
    Effect.gen(function*() {
      const { cacheFolder, open, proxy, settings, warehouse } = yield* proxied(1)
      const store = yield* open(noRetry)
      const body = new Uint8Array([1])
      for (const fault of ["unavailable", "resetBefore", "resetAfter"] as const) {
        yield* store.putIfAbsent("warm", body).pipe(Effect.ignore)
        yield* proxy.plan({ fault, share: 1 })
        for (const call of [store.put("put", body), store.putIfAbsent(`absent-${fault}`, body), store.delete("gone")]) {
          expect(yield* Effect.flip(call)).toMatchObject({ _tag: "ObjectStoreError", outcome: "Unknown", retryable: true })
        }
        expect(yield* Effect.flip(store.get("put"))).toMatchObject({ outcome: "NotApplied", retryable: true })
        expect(proxy.counts()).toMatchObject({ passed: 0, harmed: 4 })
        yield* proxy.plan(undefined)
        const stands = yield* Effect.isSuccess(store.head(`absent-${fault}`))
        expect(stands).toBe(fault === "resetAfter")
      }
      const nobody = yield* Effect.scoped(Effect.map(FaultProxy.make("http://127.0.0.1:1", 1), ({ url }) => url))
      const refused = yield* Effect.flip(
        S3ObjectStore.make(warehouse, cacheFolder, { ...settings, ...noRetry, endpoint: Option.some(nobody) })
      )
      expect(refused).toMatchObject({ outcome: "NotApplied", retryable: true })
      expect(refused.message).toContain("S3_ENDPOINT")
    }))

  it.scopedLive("keeps of a download that broke off nothing, and of the next one all", () =>
    Effect.gen(function*() {
      const { cacheFolder, open, proxy, settings } = yield* proxied(3)
      const folder = yield* temporaryFolder
      const sizeBytes = 3 * settings.partBytes + 4
      const source = yield* numberedFile(folder, "part.parquet", sizeBytes)
      const expected = yield* digest(source)
      const writer = yield* open({ cacheBytesMax: 0 })
      yield* writer.putFile("data/part.parquet", source)
      const isGet = (method: string) => method === "GET"
      const careless = yield* open(noRetry)
      yield* proxy.plan({ fault: "truncate", share: 1, matches: isGet })
      const error = yield* Effect.flip(Effect.scoped(careless.localFile("data/part.parquet")))
      expect(error).toMatchObject({ _tag: "ObjectStoreError", outcome: "NotApplied", retryable: true })
      expect(yield* filesBelow(cacheFolder)).toEqual([])
      yield* proxy.plan(undefined)
      const store = yield* open()
      yield* proxy.plan({ fault: "truncate", share: 1, timesMax: 4, matches: isGet })
      yield* Effect.scoped(Effect.gen(function*() {
        const paths = yield* Effect.all([store.localFile("data/part.parquet"), store.localFile("data/part.parquet")], { concurrency: 2 })
        expect(paths[0]).toBe(paths[1])
        expect(yield* digest(paths[0])).toBe(expected)
      }))
      expect(proxy.counts().harmed).toBe(4)
    }))

  it.scopedLive("asks the server for nothing that it has just moved there", () =>
    Effect.gen(function*() {
      const { open, proxy } = yield* proxied(1)
      const store = yield* open()
      const source = yield* numberedFile(yield* temporaryFolder, "part.parquet", 400)
      const expected = yield* digest(source)
      yield* store.putFile("data/part.parquet", source)
      yield* proxy.plan(undefined)
      expect(yield* digest(yield* store.localFile("data/part.parquet"))).toBe(expected)
      expect(proxy.counts()).toMatchObject({ passed: 0 })
    }))

  it.scopedLive("moves a large file up and down in bounded memory", () =>
    Effect.gen(function*() {
      const { open } = yield* proxied(1)
      const store = yield* open({ cacheBytesMax: 0 })
      const folder = yield* temporaryFolder
      const source = yield* numberedFile(folder, "large.parquet", 200 * mebibyte)
      const expected = yield* digest(source)
      const before = process.memoryUsage().rss
      let peak = before
      const watch = Effect.forever(Effect.zipRight(Effect.sync(() => void (peak = Math.max(peak, process.memoryUsage().rss))), Effect.sleep("10 millis")))
      const watching = yield* Effect.fork(watch)
      yield* store.putFile("data/large.parquet", source)
      yield* Effect.scoped(Effect.flatMap(store.localFile("data/large.parquet"), (path) =>
        Effect.map(digest(path), (actual) => expect(actual).toBe(expected))))
      yield* Fiber.interrupt(watching)
      expect((peak - before) / mebibyte).toBeLessThan(160)
    }), 120_000)

  it.scopedLive("takes a multipart upload for its own whose last answer was lost, and no other's", () =>
    Effect.gen(function*() {
      const { open, proxy, settings } = yield* proxied(1)
      const store = yield* open()
      const folder = yield* temporaryFolder
      const files = yield* Effect.forEach(["a", "b", "c", "d"], (name) => numberedFile(folder, name, 2 * settings.partBytes))
      yield* proxy.plan({ fault: "resetAfter", share: 1, timesMax: 3, matches: (method, path) => method === "POST" && path.includes("uploadId") })
      const results = yield* Effect.forEach(files, (path) => Effect.either(store.putFile("data/x.parquet", path)), { concurrency: "unbounded" })
      expect(proxy.counts().harmed).toBe(3)
      expect(results.filter(Either.isRight)).toHaveLength(1)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("ObjectExists")
      const left = yield* Effect.filter(files, (path) => Effect.isSuccess(Effect.tryPromise(() => access(path))))
      expect(left).toHaveLength(3)
    }))

  for (const how of ["interrupted", "failed"] as const) {
    it.scopedLive(`leaves no part of an upload behind that was ${how}`, () =>
      Effect.gen(function*() {
        const { open, proxy, settings, warehouse } = yield* proxied(1)
        const store = yield* open(noRetry)
        const folder = yield* temporaryFolder
        const source = yield* numberedFile(folder, "part.parquet", 6 * settings.partBytes)
        yield* store.putIfAbsent("warm", new Uint8Array())
        const isPart = (method: string, path: string) => method === "PUT" && path.includes("partNumber")
        yield* proxy.plan({ fault: how === "failed" ? "unavailable" : "delay", share: 1, delayMs: 2000, matches: isPart })
        const writing = yield* Effect.fork(Effect.either(store.putFile("data/part.parquet", source)))
        if (how === "interrupted") {
          yield* Effect.promise(() => Condition.waitFor("two parts are under way", () => (proxy.counts().harmed >= 2 ? true : undefined)))
          yield* Fiber.interrupt(writing)
        } else expect(Either.isLeft(yield* Fiber.join(writing))).toBe(true)
        yield* proxy.plan(undefined)
        const { client } = yield* S3Requests.make(settings)
        const { ListMultipartUploadsCommand } = yield* Effect.promise(() => import("@aws-sdk/client-s3"))
        const uploads = yield* Effect.promise(() =>
          client.send(new ListMultipartUploadsCommand({ Bucket: warehouse.bucket, Prefix: warehouse.prefix })))
        expect(uploads.Uploads ?? []).toEqual([])
        expect((yield* Effect.flip(store.head("data/part.parquet")))._tag).toBe("ObjectNotFound")
        yield* Effect.promise(() => access(source))
      }))
  }
})
