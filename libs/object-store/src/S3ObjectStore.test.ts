/** The store before a server that the tests make up: what S3 and those who imitate it answer when something is wrong. */
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Either, Logger, Option } from "effect"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as S3ObjectStore from "./S3ObjectStore.ts"
import { settingsConfig } from "./S3Settings.ts"

type Answer = (request: IncomingMessage, response: ServerResponse) => void

const secret = "hush-hush-0123456789"
const environment = { AWS_ACCESS_KEY_ID: "accesskey", AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: "hush-token" }

const error = (status: number, code: string, message = ""): Answer => (_, response) =>
  void response.writeHead(status, { "content-type": "application/xml", "x-amz-request-id": "REQUEST7" })
    .end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message><RequestId>REQUEST7</RequestId></Error>`)

const emptyList: Answer = (_, response) =>
  void response.writeHead(200, { "content-type": "application/xml" })
    .end("<?xml version=\"1.0\"?><ListBucketResult><Name>lakehouse</Name><IsTruncated>false</IsTruncated></ListBucketResult>")

const isList = (request: IncomingMessage) => request.url!.includes("list-type=2")

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake-s3-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

/** A store before a server that answers listings as `opening` says, and all else as `answer` says. */
const storeBefore = (answer: Answer, opening: Answer = emptyList, retryBudget = Duration.zero, partBytes = 5 * 1024 * 1024) =>
  Effect.gen(function*() {
    const server = createServer((request, response) => {
      request.resume()
      request.on("end", () => (isList(request) ? opening : answer)(request, response))
    })
    const port = yield* Effect.acquireRelease(
      Effect.async<number>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
      }),
      () => Effect.sync(() => server.close().closeAllConnections())
    )
    const cacheFolder = yield* temporaryFolder
    const settings = yield* Effect.withConfigProvider(settingsConfig, ConfigProvider.fromMap(new Map(Object.entries(environment))))
    const endpoint = Option.some(`http://127.0.0.1:${port}`)
    return yield* S3ObjectStore.make({ bucket: "lakehouse", prefix: "w" }, cacheFolder, { ...settings, endpoint, pathStyle: true, retryBudget, partBytes })
  })

/** A server that keeps objects and takes no notice of conditions, or refuses them. */
const unconditional = (refuses: boolean): Answer => {
  const objects = new Set<string>()
  return (request, response) => {
    const name = new URL(request.url!, "http://x").pathname
    if (request.method === "PUT" && refuses && request.headers["if-none-match"] !== undefined) {
      return error(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")(request, response)
    }
    if (request.method === "PUT") objects.add(name)
    if (request.method === "DELETE") objects.delete(name)
    response.writeHead(request.method === "HEAD" && !objects.has(name) ? 404 : request.method === "DELETE" ? 204 : 200).end()
  }
}

/** A server that completes an upload without saying so, and then knows it no more. The object bears the upload's metadata, or what `bears` says. */
const forgetfulOfUploads = (bears?: string): Answer => {
  let made: string | undefined
  let isComplete = false
  const xml = (response: ServerResponse, body: string) => void response.writeHead(200, { "content-type": "application/xml", etag: "\"1\"" }).end(body)
  return (request, response) => {
    const { headers, method, url } = request
    if (headers["if-none-match"] !== undefined && method === "PUT") return error(412, "PreconditionFailed")(request, response)
    if (method === "POST" && url!.includes("uploads")) {
      made = headers["x-amz-meta-voltlake-write"] as string
      return xml(response, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    }
    if (method === "POST" && isComplete) return error(404, "NoSuchUpload")(request, response)
    if (method === "POST") {
      isComplete = true
      return void request.socket.destroy()
    }
    if (method !== "HEAD") return xml(response, "")
    response.writeHead(isComplete ? 200 : 404, { "x-amz-meta-voltlake-write": bears ?? made ?? "" }).end()
  }
}

describe("S3ObjectStore", () => {
  for (const refuses of [false, true]) {
    it.scopedLive(`looks before it writes where the server ${refuses ? "refuses" : "takes no notice of"} conditions, and says so once`, () =>
      Effect.gen(function*() {
        const said: Array<string> = []
        const logger = Logger.make<unknown, void>(({ logLevel, message }) => void said.push(`${logLevel.label} ${String(message)}`))
        yield* Effect.gen(function*() {
          const store = yield* storeBefore(unconditional(refuses))
          yield* store.putIfAbsent("x", new Uint8Array([1]))
          expect((yield* Effect.flip(store.putIfAbsent("x", new Uint8Array([2]))))._tag).toBe("ObjectExists")
          yield* store.putIfAbsent("y", new Uint8Array([1]))
        }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
        expect(said.filter((line) => line.startsWith("WARN"))).toEqual([expect.stringContaining("no conditional writes")])
      }))
  }

  it.scopedLive("says what the server refused, what to do about it, and no secret", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [Answer, boolean, ReadonlyArray<string>]> = [
        [error(403, "AccessDenied", "Access Denied."), false, ["403", "AccessDenied", "REQUEST7", "bucket's policy"]],
        [error(403, "InvalidAccessKeyId"), false, ["AWS_ACCESS_KEY_ID"]],
        [error(403, "SignatureDoesNotMatch", `you signed with ${secret}`), false, ["AWS_SECRET_ACCESS_KEY"]],
        [error(403, "RequestTimeTooSkewed"), true, ["clocks"]],
        [error(400, "ExpiredToken"), false, ["AWS_SESSION_TOKEN"]],
        [error(404, "NoSuchBucket", "The specified bucket does not exist."), false, ["create the bucket", "WAREHOUSE"]],
        [error(301, "PermanentRedirect"), false, ["AWS_REGION"]]
      ]
      for (const [answer, retryable, words] of cases) {
        const store = yield* storeBefore(answer)
        const failure = yield* Effect.flip(store.put("x", new Uint8Array([1])))
        expect(failure).toMatchObject({ operation: "put", location: "s3://lakehouse/w/x", outcome: "NotApplied", retryable })
        for (const word of [...words, "put of s3://lakehouse/w/x"]) expect(failure.message).toContain(word)
        expect(failure.message).not.toContain("hush")
        expect((yield* Effect.flip(store.get("x")))._tag).toBe("ObjectStoreError")
        expect(String(yield* Effect.flip(store.head("x")))).not.toMatch(/(\d\d\d) \1|Unknown/)
        const unopened = yield* Effect.flip(storeBefore(answer, answer))
        expect(unopened.message).toContain("open of s3://lakehouse/w")
      }
    }))

  it.scopedLive("does not know what became of a write where the answer is an error of the server, or none of S3's", () =>
    Effect.gen(function*() {
      const page: Answer = (_, response) => void response.writeHead(502, { "content-type": "text/html" }).end("<html><p>Bad <b>gateway</html>")
      const half: Answer = (_, response) => void response.writeHead(200, { "content-length": "100" }).write("x", () => response.destroy())
      for (const answer of [error(500, "InternalError"), error(503, "SlowDown"), page]) {
        const failure = yield* Effect.flip(Effect.flatMap(storeBefore(answer), (store) => store.put("x", new Uint8Array([1]))))
        expect(failure).toMatchObject({ outcome: "Unknown", retryable: true })
        expect(failure.message).toMatch(/the server answered 50\d/)
        expect(failure.message).not.toMatch(/inspect|undefined|Unknown/)
      }
      const broken = yield* Effect.flip(Effect.flatMap(storeBefore(half), (store) => store.get("x")))
      expect(broken).toMatchObject({ _tag: "ObjectStoreError", outcome: "NotApplied", retryable: true })
    }))

  it.scopedLive("tries again what passes, and remembers that an attempt may have been applied", () =>
    Effect.gen(function*() {
      const each = (...answers: ReadonlyArray<Answer>): Answer => {
        let at = 0
        return (request, response) => answers[Math.min(at++, answers.length - 1)]!(request, response)
      }
      const ok: Answer = (_, response) => void response.writeHead(200).end()
      const write = (answer: Answer) =>
        Effect.flatMap(storeBefore(answer, emptyList, Duration.seconds(5)), (store) => store.put("x", new Uint8Array([1])))
      yield* write(each(error(409, "OperationAborted"), error(503, "SlowDown"), ok))
      expect(yield* Effect.flip(write(each(error(500, "InternalError"), error(403, "AccessDenied"))))).toMatchObject({ outcome: "Unknown", retryable: false })
      expect(yield* Effect.flip(write(each(error(409, "OperationAborted"), error(403, "AccessDenied"))))).toMatchObject({ outcome: "NotApplied" })
    }))

  it.scopedLive("knows its own upload again that a server completed and forgot, and another's for another's", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const path = join(folder, "part.parquet")
      const move = (answer: Answer) =>
        Effect.promise(() => writeFile(path, new Uint8Array(3000))).pipe(
          Effect.zipRight(storeBefore(answer, emptyList, Duration.seconds(5), 1000)),
          Effect.flatMap((store) => Effect.either(store.putFile("part.parquet", path)))
        )
      expect(Either.isRight(yield* move(forgetfulOfUploads()))).toBe(true)
      expect(yield* move(forgetfulOfUploads("another"))).toMatchObject({ left: { _tag: "ObjectExists" } })
    }))

  it.scopedLive("holds no more than four parts in memory, however many files go up", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      let atOnce = 0
      let atOnceMax = 0
      const uploads = forgetfulOfUploads()
      const slow: Answer = (request, response) => {
        if (request.method !== "PUT" || !request.url!.includes("partNumber")) return uploads(request, response)
        atOnceMax = Math.max(atOnceMax, ++atOnce)
        // Long enough for more to arrive, were they sent.
        setTimeout(() => {
          atOnce--
          response.writeHead(200, { etag: "\"1\"" }).end()
        }, 30)
      }
      const store = yield* storeBefore(slow, emptyList, Duration.seconds(5), 1000)
      yield* Effect.forEach(["a", "b", "c"], (name) => {
        const path = join(folder, name)
        return Effect.zipRight(Effect.promise(() => writeFile(path, new Uint8Array(8000))), Effect.either(store.putFile(name, path)))
      }, { concurrency: "unbounded" })
      expect(atOnceMax).toBe(4)
    }))

  it.scopedLive("knows a location by any of Hadoop's names for the scheme", () =>
    Effect.gen(function*() {
      const store = yield* storeBefore(error(404, "NoSuchKey"))
      for (const scheme of ["s3", "s3a", "s3n"]) expect(store.keyOf(`${scheme}://lakehouse/w/a/b.avro`)).toBe("a/b.avro")
      for (const other of ["s3://lakehouse/a", "s3://lakehouse/wide/a", "gs://lakehouse/w/a", "s3://lakehouse/w/../a"]) expect(store.keyOf(other)).toBeUndefined()
      expect(Either.isLeft(yield* Effect.either(store.get("a")))).toBe(true)
    }))
})
