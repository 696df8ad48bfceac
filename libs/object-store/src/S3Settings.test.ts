import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Either, Inspectable, Option, Redacted } from "effect"
import { parseWarehouse, settingsConfig } from "./S3Settings.ts"

const read = (entries: Record<string, string>) =>
  Effect.either(Effect.withConfigProvider(settingsConfig, ConfigProvider.fromMap(new Map(Object.entries(entries)))))

describe("S3 settings", () => {
  it.effect("have defaults for all", () =>
    Effect.gen(function*() {
      const settings = Either.getOrThrow(yield* read({}))
      expect(settings).toMatchObject({ region: "us-east-1", pathStyle: false, partBytes: 8 * 1024 * 1024 })
      expect(Option.isNone(settings.endpoint) && Option.isNone(settings.credentials)).toBe(true)
      expect(Duration.toMillis(settings.retryBudget)).toBe(10_000)
    }))

  it.effect("put the bucket in the path where a server is named, unless told otherwise", () =>
    Effect.gen(function*() {
      const server = { S3_ENDPOINT: "http://localhost:9000" }
      expect(Either.getOrThrow(yield* read(server)).pathStyle).toBe(true)
      expect(Either.getOrThrow(yield* read({ ...server, S3_PATH_STYLE: "false" })).pathStyle).toBe(false)
    }))

  it.effect("keep the secret out of what is printed", () =>
    Effect.gen(function*() {
      const settings = Either.getOrThrow(yield* read({ AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "hush-1", AWS_SESSION_TOKEN: "hush-2" }))
      expect(Option.map(settings.credentials, ({ secretAccessKey }) => Redacted.value(secretAccessKey))).toEqual(Option.some("hush-1"))
      expect(Inspectable.toStringUnknown(settings)).not.toContain("hush")
    }))

  it.effect("name the key of what is wrong", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [Record<string, string>, string]> = [
        [{ S3_ENDPOINT: "localhost:9000" }, "S3_ENDPOINT"],
        [{ S3_ENDPOINT: "http://key:hush@localhost:9000" }, "S3_ENDPOINT"],
        [{ AWS_ACCESS_KEY_ID: "key" }, "AWS_SECRET_ACCESS_KEY"],
        [{ AWS_SECRET_ACCESS_KEY: "hush" }, "AWS_ACCESS_KEY_ID"],
        [{ AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "" }, "AWS_SECRET_ACCESS_KEY"],
        [{ S3_PATH_STYLE: "perhaps" }, "S3_PATH_STYLE"],
        [{ S3_CONNECT_TIMEOUT: "0 seconds" }, "S3_CONNECT_TIMEOUT"],
        [{ S3_REQUEST_TIMEOUT: "soon" }, "S3_REQUEST_TIMEOUT"],
        [{ S3_RETRY_BUDGET: "often" }, "S3_RETRY_BUDGET"],
        [{ S3_MULTIPART_BYTES: "1048576" }, "S3_MULTIPART_BYTES"],
        [{ S3_CACHE_BYTES_MAX: "-1" }, "S3_CACHE_BYTES_MAX"]
      ]
      for (const [entries, key] of wrong) {
        const error = String(Either.getOrThrow(Either.flip(yield* read(entries))))
        expect(error).toContain(key)
        expect(error).not.toContain("hush")
      }
    }))

  it("take a warehouse apart, or say what is wrong with it", () => {
    expect(parseWarehouse("s3://lakehouse")).toEqual(Either.right({ bucket: "lakehouse", prefix: "" }))
    expect(parseWarehouse("s3://lakehouse/")).toEqual(Either.right({ bucket: "lakehouse", prefix: "" }))
    expect(parseWarehouse("s3a://my.bucket/a/b=c/")).toEqual(Either.right({ bucket: "my.bucket", prefix: "a/b=c" }))
    for (const wrong of ["", "lakehouse", "/data", "file:///data", "s3:/lakehouse", "s3://", "s3://UPPER/x", "s3://b/x", "s3://lakehouse//x", "s3://lakehouse/../x"]) {
      expect(Either.isLeft(parseWarehouse(wrong)), wrong).toBe(true)
    }
  })
})
