/** Files as the stack uses them: written whole, secrets readable by their owner alone. */
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import { StackUnusable } from "../StackError.ts"

export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""

export const attempt = <A>(path: string, run: () => Promise<A>): Effect.Effect<A, StackUnusable> =>
  Effect.tryPromise({ try: run, catch: (cause) => new StackUnusable({ path, reason: reasonOf(cause) }) })

/** From the system's cryptographic generator: Effect's Random is not one. */
export const secret = (bytes: number): string => randomBytes(bytes).toString("hex")

export const exists = (path: string) => Effect.promise(() => fs.access(path).then(() => true, () => false))

export const readIfThere = (path: string) =>
  attempt(path, () =>
    fs.readFile(path, "utf8").catch((cause: unknown) => {
      if (codeOf(cause) === "ENOENT") return undefined
      throw cause
    }))

/** Readers see the old contents or the new. Mode 0600. */
export const writeWhole = (path: string, contents: string) =>
  attempt(path, async () => {
    const temporary = `${path}.${secret(4)}.tmp`
    await fs.writeFile(temporary, contents, { mode: 0o600 })
    await fs.rename(temporary, path)
  })

export const remove = (path: string) => attempt(path, () => fs.rm(path, { recursive: true, force: true }))

/** The document kept in a file; undefined where there is none. */
export const readJson = <A, I>(path: string, schema: Schema.Schema<A, I>) =>
  Effect.flatMap(readIfThere(path), (text) =>
    text === undefined
      ? Effect.succeed(undefined)
      : Schema.decode(Schema.parseJson(schema))(text).pipe(
        Effect.mapError((error) => new StackUnusable({ path, reason: `cannot be read: ${error.message}` }))
      ))

/** The end of a log, from a byte offset on. */
export const tail = (path: string, offset = 0, charsMax = 2000) =>
  Effect.promise(() => fs.readFile(path).catch(() => Buffer.alloc(0))).pipe(
    Effect.map((bytes) => bytes.subarray(offset).toString().trim().slice(-charsMax))
  )
