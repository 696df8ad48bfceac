/** Namespaces over HTTP (OpenAPI: `/v1/{prefix}/namespaces…`). */
import { HttpRouter } from "@effect/platform"
import { Effect } from "effect"
import { Catalog, type Properties } from "@voltlake/iceberg/Catalog"
import type { Node } from "@voltlake/iceberg/Json"
import * as Exchange from "./Exchange.ts"
import { badRequest, Fault } from "./Fault.ts"
import * as Names from "./Names.ts"

/** The catalog's columns hold no more. */
const keyLengthMax = 255
const valueLengthMax = 1000

const checkProperties = (properties: Properties) => {
  const long = Object.entries(properties).find(([key, value]) => key.length > keyLengthMax || value.length > valueLengthMax)
  return long === undefined
    ? Effect.void
    : badRequest(`property ${long[0].slice(0, keyLengthMax)}: a key has up to ${keyLengthMax} characters, a value ${valueLengthMax}`)
}

const list = Effect.gen(function*() {
  const catalog = yield* Catalog
  const parent = yield* Exchange.query("parent")
  if (parent !== undefined && parent !== "") yield* catalog.namespaceProperties(yield* Names.namespaceOfPath(parent))
  const all = parent === undefined || parent === "" ? yield* catalog.namespaces : []
  const { items, next } = yield* Names.page(all, (name) => name, yield* Exchange.pageAsked)
  return Exchange.json({ namespaces: items.map(Names.namespaceJson), "next-page-token": next ?? null })
})

const create = Effect.gen(function*() {
  const { name, properties } = yield* Exchange.body((root) => ({
    name: Names.newNamespaceOfBody(root.at("namespace")),
    properties: root.at("properties").strings()
  }))
  const namespace = yield* name
  yield* checkProperties(properties)
  yield* (yield* Catalog).newNamespace(namespace, properties)
  return Exchange.json({ namespace: Names.namespaceJson(namespace), properties })
})

const load = Effect.gen(function*() {
  const namespace = yield* Exchange.namespace
  const properties = yield* (yield* Catalog).namespaceProperties(namespace)
  return Exchange.json({ namespace: Names.namespaceJson(namespace), properties })
})

const exists = Effect.as(load, Exchange.nothing)

const drop = Effect.gen(function*() {
  yield* (yield* Catalog).dropNamespace(yield* Exchange.namespace)
  return Exchange.nothing
})

const readChange = (root: Node) => ({
  removals: root.at("removals").list((key) => key.string()),
  updates: root.at("updates").strings()
})

const change = Effect.gen(function*() {
  const namespace = yield* Exchange.namespace
  const asked = yield* Exchange.body(readChange)
  const both = asked.removals.find((key) => Object.hasOwn(asked.updates, key))
  if (both !== undefined) {
    return yield* new Fault({ status: 422, type: "UnprocessableEntityException", reason: `${both} is to be set and removed at once` })
  }
  yield* checkProperties(asked.updates)
  const before = yield* (yield* Catalog).changeNamespace(namespace, asked)
  const wasThere = (key: string) => Object.hasOwn(before, key)
  return Exchange.json({
    updated: Object.keys(asked.updates),
    removed: asked.removals.filter(wasThere),
    missing: asked.removals.filter((key) => !wasThere(key))
  })
})

export const routes = HttpRouter.empty.pipe(
  HttpRouter.get("/v1/namespaces", list),
  HttpRouter.post("/v1/namespaces", create),
  HttpRouter.get("/v1/namespaces/:namespace", load),
  HttpRouter.head("/v1/namespaces/:namespace", exists),
  HttpRouter.del("/v1/namespaces/:namespace", drop),
  HttpRouter.post("/v1/namespaces/:namespace/properties", change)
)

export const endpoints = [
  "GET /v1/{prefix}/namespaces",
  "POST /v1/{prefix}/namespaces",
  "GET /v1/{prefix}/namespaces/{namespace}",
  "HEAD /v1/{prefix}/namespaces/{namespace}",
  "DELETE /v1/{prefix}/namespaces/{namespace}",
  "POST /v1/{prefix}/namespaces/{namespace}/properties"
]
