/**
 * Another engine as a process that does what it is asked, one request after the other: a line of JSON each way. It lives as long as the scope, since
 * some engines take long to start.
 */
import { Effect, Schema, type Scope } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { moduleFolder, type Program } from "./Installed.ts"

/** The engine refused, or ended. */
export class EngineFailed extends Schema.TaggedError<EngineFailed>()("EngineFailed", { engine: Schema.String, request: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.engine} failed at ${this.request}: ${this.reason}`
  }
}

/** Rows as text that is the same from every engine, in the order of the text: how many, the first of them, and a digest of all. */
export interface Digest {
  readonly count: number
  readonly digest: string
  readonly first: ReadonlyArray<string>
}

export interface Engine {
  /** Calls a function of the engine's Python module with named arguments. */
  readonly call: <A = null>(name: string, args?: Readonly<Record<string, unknown>>) => Effect.Effect<A, EngineFailed>
}

const saidMax = 4000

/** Programs that have settled on UTC say the same times as we do. */
const settled = { TZ: "UTC", PYTHONDONTWRITEBYTECODE: "1", PYTHONPATH: moduleFolder }

/** `engine` names a module of `voltlake_interop`; settings are handed to its `open`. */
export const start = Effect.fn("Engine.start")(function*(
  engine: string,
  program: Program,
  settings: Readonly<Record<string, string>>
): Effect.fn.Return<Engine, EngineFailed, Scope.Scope> {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(program.interpreter, ["-m", "voltlake_interop", engine], {
        env: { ...process.env, ...settled, ...program.env },
        stdio: ["pipe", "pipe", "pipe"]
      })),
    (started) =>
      Effect.promise(async () => {
        if (started.exitCode !== null || started.signalCode !== null) return
        const ended = once(started, "close")
        // It ends, and what it started with it, once nobody asks any more.
        started.stdin.end()
        await ended
      })
  )
  let said = ""
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-saidMax)))
  child.stdin.on("error", () => undefined)
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const oneAtATime = yield* Effect.makeSemaphore(1)
  const ask = (name: string, args: Readonly<Record<string, unknown>>) =>
    Effect.gen(function*() {
      const failed = (reason: string) => new EngineFailed({ engine, request: `${name} ${JSON.stringify(args)}`.slice(0, 500), reason })
      child.stdin.write(`${JSON.stringify({ name, args })}\n`)
      const { done, value } = yield* Effect.promise(() => answers.next())
      if (done === true) return yield* failed(`its process ended: ${said}`)
      const answer = JSON.parse(value) as { readonly result: unknown } | { readonly error: string }
      return "error" in answer ? yield* failed(answer.error) : answer.result
    }).pipe(oneAtATime.withPermits(1))
  yield* ask("open", settings)
  return { call: <A>(name: string, args = {}) => Effect.map(ask(name, args), (result) => result as A) }
})
