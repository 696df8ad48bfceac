/** A catalog in memory, for tests. Every operation is one synchronous step, so that each is atomic. */
import { Clock, Effect, Layer } from "effect"
import type { Swap, TableHead } from "./Catalog.ts"
import {
  Catalog,
  CommitConflict,
  CommitRetired,
  expiredFilesMax,
  TableAlreadyExists,
  TableNotFound
} from "./Catalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

interface State {
  readonly namespaces: Set<string>
  readonly locations: Map<string, string>
  readonly heads: Map<string, TableHead>
  readonly unreferencedSinceMs: Map<string, number>
  readonly retired: Set<string>
}

const swapIn = (
  state: State,
  { commitId, tables, unreferenced }: Swap,
  nowMs: number
): Effect.Effect<void, CommitConflict | CommitRetired> => {
  if (state.retired.has(commitId)) return Effect.fail(new CommitRetired({ commitId }))
  const sorted = [...tables].sort((a, b) => TableIdentifier.order(a.table, b.table))
  for (const { table, expected } of sorted) {
    const name = TableIdentifier.render(table)
    const found = state.locations.get(name)
    if (found !== expected) return Effect.fail(new CommitConflict({ table: name, expected, found }))
  }
  for (const { table, next, head } of sorted) {
    const name = TableIdentifier.render(table)
    state.locations.set(name, next)
    if (head !== undefined) state.heads.set(name, { table, ...head, commitId })
  }
  for (const location of unreferenced) {
    if (!state.unreferencedSinceMs.has(location)) state.unreferencedSinceMs.set(location, nowMs)
  }
  return Effect.void
}

export const make: Effect.Effect<typeof Catalog.Service> = Effect.sync(() => {
  const state: State = {
    namespaces: new Set(),
    locations: new Map(),
    heads: new Map(),
    unreferencedSinceMs: new Map(),
    retired: new Set()
  }
  return {
    createNamespace: (namespace) => Effect.sync(() => void state.namespaces.add(namespace)),
    namespaces: Effect.sync(() => Array.from(state.namespaces).sort()),
    list: Effect.sync(() => Array.from(state.locations.keys()).sort().map(TableIdentifier.parse)),
    metadataLocation: (table) =>
      Effect.suspend(() => {
        const name = TableIdentifier.render(table)
        const location = state.locations.get(name)
        return location === undefined ? Effect.fail(new TableNotFound({ table: name })) : Effect.succeed(location)
      }),
    createTable: (table, metadataLocation) =>
      Effect.suspend(() => {
        const name = TableIdentifier.render(table)
        if (state.locations.has(name)) return Effect.fail(new TableAlreadyExists({ table: name }))
        state.locations.set(name, metadataLocation)
        return Effect.void
      }),
    swap: (swap) => Effect.flatMap(Clock.currentTimeMillis, (nowMs) => swapIn(state, swap, nowMs)),
    heads: Effect.sync(() => Array.from(state.heads.values())),
    retire: (commitIds) => Effect.sync(() => commitIds.forEach((id) => state.retired.add(id))),
    expiredFiles: (ageMs) =>
      Effect.map(Clock.currentTimeMillis, (nowMs) =>
        Array.from(state.unreferencedSinceMs)
          .filter(([, sinceMs]) => nowMs - sinceMs >= ageMs)
          .sort(([, a], [, b]) => a - b)
          .slice(0, expiredFilesMax)
          .map(([location]) => location)),
    forgetFiles: (locations) =>
      Effect.sync(() => locations.forEach((location) => state.unreferencedSinceMs.delete(location)))
  }
})

export const layer: Layer.Layer<Catalog> = Layer.effect(Catalog, make)
