/** Requests and answers of the catalog: bodies with whole 64-bit integers, parameters, and the protocol's form of errors. */
import { FileSystem, HttpIncomingMessage, HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Context, Effect, Option } from "effect"
import type { Json, Node } from "@voltlake/iceberg/Json"
import { decode as decodeJson, encode as encodeJson } from "@voltlake/iceberg/Json"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { make as identifierOf } from "@voltlake/iceberg/TableIdentifier"
import type { Admission } from "./CatalogAccess.ts"
import { badRequest, Fault } from "./Fault.ts"
import * as Names from "./Names.ts"

/** How whoever asks was let in. */
export class Admitted extends Context.Tag("@voltlake/rest-catalog/Exchange/Admitted")<Admitted, Admission>() {}

/** Metadata of a table is not part of any request, so that even a table of thousands of columns fits. */
export const bodyBytesMax = 16 * 1024 * 1024

const tooLarge = new Fault({
  status: 413,
  type: "BadRequestException",
  reason: `the body of a request may have ${bodyBytesMax} bytes, no more`
})

/** The request's body as `read` reads it. */
export const body = <A>(read: (root: Node) => A) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    // Said before the body is read, since reading too much of it ends the connection.
    if (Number(request.headers["content-length"] ?? "0") > bodyBytesMax) return yield* tooLarge
    const text = yield* request.text.pipe(
      HttpIncomingMessage.withMaxBodySize(Option.some(FileSystem.Size(bodyBytesMax))),
      Effect.mapError((error) => badRequest(`the body could not be read: ${error.message}`))
    )
    return yield* decodeJson(text, read)
  })

export const json = (value: Json, status = 200) => text(encodeJson(value), status)

export const text = (body: string, status = 200) => HttpServerResponse.text(body, { status, contentType: "application/json" })

export const nothing = HttpServerResponse.empty({ status: 204 })

export const fault = ({ reason, status, type }: Fault) =>
  json({ error: { message: reason, type, code: status } }, status).pipe(
    status === 401 ? HttpServerResponse.setHeader("www-authenticate", "Bearer") : (response) => response
  )

/** A parameter of the query; the last one where it stands there more than once. */
export const query = (name: string) =>
  Effect.map(HttpServerRequest.ParsedSearchParams, (params) => {
    const found = params[name]
    return typeof found === "object" ? found.at(-1) : found
  })

export const pageAsked = Effect.map(Effect.all([query("pageToken"), query("pageSize")]), ([token, size]) => ({ token, size }))

const parameter = (name: string) => Effect.map(HttpRouter.params, (params) => params[name] ?? "")

export const namespace = Effect.flatMap(parameter("namespace"), Names.namespaceOfPath)

/** One of a namespace of several levels is a table that is not there. */
export const table = Effect.gen(function*() {
  const name = yield* parameter("table")
  const found = yield* Effect.either(namespace)
  const identifier: TableIdentifier = found._tag === "Right" ? identifierOf(found.right, name) : identifierOf(found.left.namespace, name)
  return identifier
})
