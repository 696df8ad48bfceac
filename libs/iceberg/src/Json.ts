/**
 * JSON values with whole 64-bit integers, and a reader that names the place of what is wrong.
 *
 * Integers beyond 2^53 come as bigint, others as number, so that a value written back is the value that was read.
 */
import { Either, Schema } from "effect"
import { parse as parseLossless, stringify as stringifyLossless } from "lossless-json"

export type Json = null | boolean | number | bigint | string | ReadonlyArray<Json> | JsonObject

export interface JsonObject {
  readonly [key: string]: Json
}

/** A document is not what its format demands. `path` leads to the place, e.g. `snapshots[3].snapshot-id`. */
export class JsonInvalid extends Schema.TaggedError<JsonInvalid>()("JsonInvalid", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return this.path === "" ? this.reason : `${this.path}: ${this.reason}`
  }
}

const parseNumber = (text: string): number | bigint => {
  if (!/^-?\d+$/.test(text)) return Number(text)
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : BigInt(text)
}

const asJsonInvalid = (cause: unknown) =>
  cause instanceof JsonInvalid
    ? cause
    : new JsonInvalid({ path: "", reason: cause instanceof Error ? cause.message : String(cause) })

/** Decodes with a function that may throw `JsonInvalid`, which a {@link Node} does. */
export const decode = <A>(text: string, read: (root: Node) => A): Either.Either<A, JsonInvalid> =>
  Either.try({
    try: () => read(new Node(parseLossless(text, undefined, parseNumber) as Json, "")),
    catch: asJsonInvalid
  })

export const encode = (value: Json): string => stringifyLossless(value) ?? "null"

const describe = (value: Json | undefined) =>
  value === undefined ? "nothing" : value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`

/** A value and its place in the document. Every method throws `JsonInvalid`; {@link decode} turns that into a value. */
export class Node {
  constructor(readonly value: Json | undefined, readonly path: string) {}

  fail(reason: string): never {
    throw new JsonInvalid({ path: this.path, reason })
  }

  isAbsent(): boolean {
    return this.value === undefined || this.value === null
  }

  object(): JsonObject {
    if (typeof this.value !== "object" || this.value === null || Array.isArray(this.value)) {
      return this.fail(`expected an object, found ${describe(this.value)}`)
    }
    return this.value as JsonObject
  }

  at(key: string): Node {
    return new Node(this.object()[key], this.path === "" ? key : `${this.path}.${key}`)
  }

  items(): ReadonlyArray<Node> {
    if (!Array.isArray(this.value)) return this.fail(`expected a list, found ${describe(this.value)}`)
    return this.value.map((item: Json, index) => new Node(item, `${this.path}[${index}]`))
  }

  entries(): ReadonlyArray<readonly [string, Node]> {
    return Object.keys(this.object()).map((key) => [key, this.at(key)] as const)
  }

  string(): string {
    return typeof this.value === "string" ? this.value : this.fail(`expected a string, found ${describe(this.value)}`)
  }

  boolean(): boolean {
    return typeof this.value === "boolean" ? this.value : this.fail(`expected a boolean, found ${describe(this.value)}`)
  }

  /** An integer that a number holds exactly: ids of schemas, milliseconds. */
  int(): number {
    return typeof this.value === "number" && Number.isSafeInteger(this.value)
      ? this.value
      : this.fail(`expected an integer, found ${describe(this.value)}`)
  }

  long(): bigint {
    if (typeof this.value === "bigint") return this.value
    return BigInt(this.int())
  }

  /** The value read, or undefined where there is none (absent or null). */
  optional<A>(read: (node: Node) => A): A | undefined {
    return this.isAbsent() ? undefined : read(this)
  }

  list<A>(read: (node: Node) => A): ReadonlyArray<A> {
    return this.isAbsent() ? [] : this.items().map(read)
  }

  strings(): Readonly<Record<string, string>> {
    return this.isAbsent() ? {} : Object.fromEntries(this.entries().map(([key, node]) => [key, node.string()]))
  }

  /** What the object holds beside `known`: kept, so that a field of a later writer outlives ours. */
  extra(known: ReadonlySet<string>): JsonObject {
    return Object.fromEntries(Object.entries(this.object()).filter(([key]) => !known.has(key)))
  }
}
