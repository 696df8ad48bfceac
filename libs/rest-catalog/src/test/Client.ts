/** A client of the catalog within the process: requests as they come over HTTP, answers as they go. */
import { HttpApp } from "@effect/platform"
import { Effect, Option, type Redacted } from "effect"
import type { Json } from "@voltlake/iceberg/Json"
import { encode as encodeJson } from "@voltlake/iceberg/Json"
import * as TableMetadataJson from "@voltlake/iceberg/TableMetadataJson"
import { noProperties } from "../CatalogSettings.ts"
import * as RestCatalog from "../RestCatalog.ts"

export interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
  /** As JavaScript reads it: ids beyond 2^53 are not what they are in `text`. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly json: any
}

export interface Client {
  readonly ask: (method: string, path: string, body?: Json, headers?: Readonly<Record<string, string>>) => Effect.Effect<Answer>
  readonly get: (path: string) => Effect.Effect<Answer>
  readonly post: (path: string, body: Json) => Effect.Effect<Answer>
}

export const open: RestCatalog.RestCatalogSettings = { tokens: { read: [], write: Option.none() }, client: noProperties }

export const withTokens = (read: ReadonlyArray<Redacted.Redacted>, write: Option.Option<Redacted.Redacted>): RestCatalog.RestCatalogSettings => ({
  ...open,
  tokens: { read, write }
})

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export const make = (settings: RestCatalog.RestCatalogSettings = open) =>
  Effect.map(Effect.zip(RestCatalog.make(settings), Effect.runtime<never>()), ([app, runtime]): Client => {
    const handler = HttpApp.toWebHandlerRuntime(runtime)(app)
    const ask: Client["ask"] = (method, path, body, headers = {}) =>
      Effect.promise(async () => {
        const content = body === undefined ? undefined : typeof body === "string" ? body : encodeJson(body)
        const init = { method, headers: { "content-type": "application/json", ...headers }, ...(content === undefined ? {} : { body: content }) }
        const response = await handler(new Request(`http://lake.example${path}`, init))
        const text = await response.text()
        return { status: response.status, text, headers: response.headers, json: parse(text) }
      })
    return { ask, get: (path) => ask("GET", path), post: (path, body) => ask("POST", path, body) }
  })

/** The metadata in an answer, with its ids whole. */
export const metadataOf = ({ text }: Answer) => {
  const begin = text.indexOf("\"metadata\":") + "\"metadata\":".length
  const end = text.lastIndexOf(",\"config\":")
  return TableMetadataJson.decode(text.slice(begin, end < 0 ? -1 : end), "the answer")
}
