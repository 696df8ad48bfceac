/** Object store and catalog of which the n-th call fails, before it did anything or after it did everything. */
import { Effect, Layer } from "effect"
import { ObjectStore, ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { Catalog, CatalogError } from "../Catalog.ts"

export type FaultKind =
  /** Nothing happened, and trying again is of no use. */
  | "refused"
  /** Nothing happened; the next call works. */
  | "passing"
  /** All happened, but the answer was lost. */
  | "lost-answer"

export interface Fault {
  readonly kind: FaultKind
  /** Counts down with each call; fires at zero. */
  remaining: number
  fired: string | undefined
}

type Failure = (outcome: "NotApplied" | "Unknown", retryable: boolean) => unknown

const guard = (fault: Fault, name: string, failure: Failure) =>
<A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    fault.remaining--
    if (fault.remaining !== 0) return call
    fault.fired = name
    if (fault.kind === "refused") return Effect.fail(failure("NotApplied", false) as E)
    if (fault.kind === "passing") return Effect.fail(failure("NotApplied", true) as E)
    return Effect.zipRight(call, Effect.fail(failure("Unknown", true) as E))
  })

const faultyStore = (fault: Fault) =>
  Effect.map(ObjectStore, (store) => {
    const at = (operation: string, key: string) =>
      guard(fault, operation, (outcome, retryable) =>
        new ObjectStoreError({ operation, location: key, outcome, retryable, reason: "fault" }))
    return ObjectStore.of({
      ...store,
      get: (key) => at("get", key)(store.get(key)),
      putIfAbsent: (key, body) => at("putIfAbsent", key)(store.putIfAbsent(key, body)),
      putFile: (key, path) => at("putFile", key)(store.putFile(key, path)),
      localFile: (key) => at("localFile", key)(store.localFile(key)),
      delete: (key) => at("delete", key)(store.delete(key))
    })
  })

export const catalogFault = (operation: string, outcome: "NotApplied" | "Unknown", retryable: boolean) =>
  new CatalogError({ operation, outcome, retryable, reason: "fault" })

const faultyCatalog = (fault: Fault) =>
  Effect.map(Catalog, (catalog) => {
    const at = (operation: string) =>
      guard(fault, operation, (outcome, retryable) => catalogFault(operation, outcome, retryable))
    return Catalog.of({
      ...catalog,
      metadataLocation: (table) => at("metadataLocation")(catalog.metadataLocation(table)),
      swap: (swap) => at("swap")(catalog.swap(swap))
    })
  })

export const layer = (fault: Fault) =>
  Layer.merge(Layer.effect(ObjectStore, faultyStore(fault)), Layer.effect(Catalog, faultyCatalog(fault)))
