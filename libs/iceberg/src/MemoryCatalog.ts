/** A catalog in memory, for tests. Every operation is one synchronous step, so that each is atomic. */
import { Clock, Duration, Effect, Either, Layer } from "effect"
import * as Position from "@voltlake/domain/Position"
import type { Properties, Swap, TableHead } from "./Catalog.ts"
import {
  Catalog,
  CommitConflict,
  CommitRetired,
  expiredFilesMax,
  NamespaceAlreadyExists,
  NamespaceNotEmpty,
  NamespaceNotFound,
  TableAlreadyExists,
  TableNotFound
} from "./Catalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

interface State {
  readonly namespaces: Map<string, Properties>
  readonly locations: Map<string, string>
  readonly heads: Map<string, TableHead>
  readonly epochs: Map<string, number>
  readonly unreferencedSinceMs: Map<string, number>
  readonly retired: Set<string>
  /** When each began. */
  readonly leases: Set<{ readonly sinceMs: number }>
  readonly lines: Map<string, Line>
}

/** Those who have their turn at a table, or wait for it. */
interface Line {
  readonly turn: Effect.Semaphore
  length: number
}

const lineOf = (state: State, name: string): Line => {
  const line = state.lines.get(name) ?? { turn: Effect.unsafeMakeSemaphore(1), length: 0 }
  state.lines.set(name, line)
  return line
}

const turnWaitMax = Duration.seconds(5)

const waitFor = Effect.fnUntraced(function*(line: Line) {
  yield* Effect.acquireRelease(Effect.sync(() => line.length++), () => Effect.sync(() => line.length--))
  yield* Effect.acquireRelease(Effect.interruptible(line.turn.take(1)), () => line.turn.release(1))
})

const turnIn = (state: State, tables: ReadonlyArray<TableIdentifier.TableIdentifier>, hasLost: boolean) =>
  Effect.suspend(() => {
    const lines = Array.from(new Set(tables.map(TableIdentifier.render))).sort().map((name) => lineOf(state, name))
    return hasLost || lines.some(({ length }) => length > 0) ? Effect.asVoid(Effect.timeoutOption(Effect.forEach(lines, waitFor), turnWaitMax)) : Effect.void
  })

const unreference = (state: State, locations: ReadonlyArray<string>, nowMs: number): void => {
  for (const location of locations) if (!state.unreferencedSinceMs.has(location)) state.unreferencedSinceMs.set(location, nowMs)
}

const positionOf = (text: string | undefined) =>
  text === undefined ? Position.empty : Either.getOrElse(Position.decode(text), () => Position.empty)

const isBelow = (position: string | undefined, head: string | undefined) => !Position.reached(positionOf(position), positionOf(head))

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
    if (head === undefined) continue
    const { found, ...now } = head
    if (isBelow(found, state.heads.get(name)?.position)) state.epochs.set(name, (state.epochs.get(name) ?? 0) + 1)
    state.heads.set(name, { table, ...now, commitId })
  }
  unreference(state, unreferenced, nowMs)
  return Effect.void
}

const holdsTables = (state: State, namespace: string) =>
  Array.from(state.locations.keys()).some((name) => TableIdentifier.parse(name).namespace === namespace)

const propertiesOf = (state: State, namespace: string): Effect.Effect<Properties, NamespaceNotFound> =>
  Effect.suspend(() => {
    const properties = state.namespaces.get(namespace) ?? (holdsTables(state, namespace) ? {} : undefined)
    return properties === undefined ? Effect.fail(new NamespaceNotFound({ namespace })) : Effect.succeed(properties)
  })

const take = (state: State, table: TableIdentifier.TableIdentifier) =>
  Effect.suspend(() => {
    const name = TableIdentifier.render(table)
    const [location, head] = [state.locations.get(name), state.heads.get(name)]
    if (location === undefined) return Effect.fail(new TableNotFound({ table: name }))
    state.locations.delete(name)
    const epoch = state.epochs.get(name) ?? 0
    state.heads.delete(name)
    state.epochs.delete(name)
    return Effect.succeed({ location, head, epoch })
  })

const rename = (state: State, from: TableIdentifier.TableIdentifier, to: TableIdentifier.TableIdentifier) =>
  Effect.suspend((): Effect.Effect<void, TableNotFound | TableAlreadyExists> => {
    const name = TableIdentifier.render(to)
    if (state.locations.has(name)) return Effect.fail(new TableAlreadyExists({ table: name }))
    return Effect.map(take(state, from), ({ epoch, head, location }) => {
      state.locations.set(name, location)
      state.epochs.set(name, epoch)
      if (head !== undefined) state.heads.set(name, { ...head, table: to })
    })
  })

export const make: Effect.Effect<typeof Catalog.Service> = Effect.sync(() => {
  const state: State = {
    namespaces: new Map(),
    locations: new Map(),
    heads: new Map(),
    epochs: new Map(),
    unreferencedSinceMs: new Map(),
    retired: new Set(),
    leases: new Set(),
    lines: new Map()
  }
  return {
    createNamespace: (namespace) =>
      Effect.sync(() => void state.namespaces.set(namespace, state.namespaces.get(namespace) ?? {})),
    namespaces: Effect.sync(() => Array.from(state.namespaces.keys()).sort()),
    newNamespace: (namespace, properties) =>
      Effect.suspend(() => {
        if (state.namespaces.has(namespace)) return Effect.fail(new NamespaceAlreadyExists({ namespace }))
        state.namespaces.set(namespace, properties)
        return Effect.void
      }),
    namespaceProperties: (namespace) => propertiesOf(state, namespace),
    changeNamespace: (namespace, { removals, updates }) =>
      Effect.tap(propertiesOf(state, namespace), (before) =>
        Effect.sync(() => {
          const kept = Object.entries(before).filter(([key]) => !removals.includes(key))
          state.namespaces.set(namespace, { ...Object.fromEntries(kept), ...updates })
        })),
    dropNamespace: (namespace) =>
      Effect.flatMap(propertiesOf(state, namespace), () => {
        if (holdsTables(state, namespace)) return Effect.fail(new NamespaceNotEmpty({ namespace }))
        state.namespaces.delete(namespace)
        return Effect.void
      }),
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
    dropTable: (table, unreferenced) =>
      Effect.zipWith(take(state, table), Clock.currentTimeMillis, (_, nowMs) => unreference(state, unreferenced, nowMs)),
    renameTable: (from, to) => rename(state, from, to),
    swap: (swap) => Effect.flatMap(Clock.currentTimeMillis, (nowMs) => swapIn(state, swap, nowMs)),
    turn: (tables, hasLost) => turnIn(state, tables, hasLost),
    heads: Effect.sync(() => Array.from(state.heads.values())),
    epoch: (table) => Effect.sync(() => state.epochs.get(TableIdentifier.render(table)) ?? 0),
    retire: (commitIds) => Effect.sync(() => commitIds.forEach((id) => state.retired.add(id))),
    lease: () =>
      Effect.acquireRelease(
        Effect.map(Clock.currentTimeMillis, (sinceMs) => {
          const lease = { sinceMs }
          state.leases.add(lease)
          return lease
        }),
        (lease) => Effect.sync(() => state.leases.delete(lease))
      ),
    expiredFiles: (ageMs) =>
      Effect.map(Clock.currentTimeMillis, (nowMs) =>
        Array.from(state.unreferencedSinceMs)
          .filter(([, sinceMs]) => nowMs - sinceMs >= ageMs && Array.from(state.leases).every((lease) => sinceMs < lease.sinceMs))
          .sort(([, a], [, b]) => a - b)
          .slice(0, expiredFilesMax)
          .map(([location]) => location)),
    unreference: (locations) => Effect.map(Clock.currentTimeMillis, (nowMs) => unreference(state, locations, nowMs)),
    forgetFiles: (locations) =>
      Effect.sync(() => locations.forEach((location) => state.unreferencedSinceMs.delete(location)))
  }
})

export const layer: Layer.Layer<Catalog> = Layer.effect(Catalog, make)
