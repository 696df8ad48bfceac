/**
 * The port for durable bytes under keys. One adapter per technology: LocalObjectStore, S3ObjectStore, MemoryObjectStore.
 *
 * Keys are relative, `/`-separated, without `.` or `..` segments. Tables name objects by location (a URI); `location` and `keyOf` translate.
 */
import { Context, type Effect, Schema, type Scope, type Stream } from "effect"
import { Outcome } from "@voltlake/domain/Failure"

export class ObjectNotFound extends Schema.TaggedError<ObjectNotFound>()("ObjectNotFound", { location: Schema.String }) {
  override get message() {
    return `no object at ${this.location}`
  }
}

/** The key is taken; the object there was not touched. */
export class ObjectExists extends Schema.TaggedError<ObjectExists>()("ObjectExists", { location: Schema.String }) {
  override get message() {
    return `an object already stands at ${this.location}`
  }
}

/** The store failed. `outcome` says whether a write may have happened all the same. */
export class ObjectStoreError extends Schema.TaggedError<ObjectStoreError>()("ObjectStoreError", {
  operation: Schema.String,
  location: Schema.String,
  outcome: Outcome,
  /** Whether trying again can help (a full disk may be freed, a forbidden path stays forbidden). */
  retryable: Schema.Boolean,
  reason: Schema.String
}) {
  override get message() {
    return `${this.operation} of ${this.location} failed: ${this.reason}`
  }
}

export interface ObjectInfo {
  readonly key: string
  readonly sizeBytes: number
  readonly modifiedAtMs: number
}

/**
 * Guarantees: a write is atomic, and durable when it returns (file and folder synced); a reader sees an object whole or not at all;
 * `putIfAbsent` succeeds for exactly one of many writers of a key; `delete` of an absent key succeeds.
 * Not guaranteed: the order of `list`, rename, append, nor that a failed write had no effect (see `outcome`).
 */
export class ObjectStore extends Context.Tag("@voltlake/object-store/ObjectStore")<ObjectStore, {
  /** The object's location for table metadata, e.g. `file:///data/warehouse/bronze/x.parquet`. */
  readonly location: (key: string) => string
  /** The key of a location below this store, or undefined where it lies elsewhere. */
  readonly keyOf: (location: string) => string | undefined
  readonly get: (key: string) => Effect.Effect<Uint8Array, ObjectNotFound | ObjectStoreError>
  /** The object's bytes in `[start, end)`, as far as there are any, without reading others. */
  readonly range: (key: string, start: number, end: number) => Effect.Effect<Uint8Array, ObjectNotFound | ObjectStoreError>
  /** Writes the object, replacing what may stand there. */
  readonly put: (key: string, body: Uint8Array) => Effect.Effect<void, ObjectStoreError>
  readonly putIfAbsent: (key: string, body: Uint8Array) => Effect.Effect<void, ObjectExists | ObjectStoreError>
  /** Moves a finished local file into the store (the file is gone afterwards). Fails with `ObjectExists` where the key is taken. */
  readonly putFile: (key: string, path: string) => Effect.Effect<void, ObjectExists | ObjectStoreError>
  /** A local path that holds the object's bytes until the scope closes. Read-only. */
  readonly localFile: (key: string) => Effect.Effect<string, ObjectNotFound | ObjectStoreError, Scope.Scope>
  readonly head: (key: string) => Effect.Effect<ObjectInfo, ObjectNotFound | ObjectStoreError>
  /** Every object whose key starts with `prefix`. */
  readonly list: (prefix: string) => Stream.Stream<ObjectInfo, ObjectStoreError>
  readonly delete: (key: string) => Effect.Effect<void, ObjectStoreError>
}>() {}
