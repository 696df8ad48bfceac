/**
 * Processes that outlive the one that started them. `<dir>/<name>.pid.json` names the process with the time it started: a number alone may be
 * another program's by now.
 */
import { Duration, Effect, Schedule, Schema } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { StartFailed, type StackUnusable } from "../StackError.ts"
import { attempt, readJson, reasonOf, remove, tail, writeWhole } from "./Files.ts"

const Running = Schema.Struct({
  pid: Schema.Number,
  /** When it started, in whatever unit the system tells it. */
  started: Schema.String
})

const stateEvery = Duration.millis(50)
const stopLimit = Duration.seconds(20)
const killLimit = Duration.seconds(5)
const logBytesMax = 16 * 1024 * 1024

const pidFile = (dir: string, name: string) => join(dir, `${name}.pid.json`)

export const logFile = (dir: string, name: string) => join(dir, `${name}.log`)

/** When a process started; undefined where it is gone or only waits for its parent to notice its end. */
export const startOf = (pid: number): Effect.Effect<string | undefined> =>
  process.platform === "linux"
    ? Effect.promise(() => fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")).pipe(Effect.map((text) => {
      // The name stands in parentheses and may hold anything, so fields count from the last one: state first, start time 20th.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
      return text === "" || fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19]
    }))
    : Effect.async((resume) => {
      const child = spawn("/bin/ps", ["-o", "stat=,lstart=", "-p", String(pid)], { stdio: ["ignore", "pipe", "ignore"] })
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()))
      child.on("error", () => resume(Effect.succeed(undefined)))
      child.on("close", () => {
        const [state = "", ...time] = output.trim().split(/\s+/)
        resume(Effect.succeed(state === "" || state.startsWith("Z") ? undefined : time.join(" ")))
      })
    })

/** The recorded process's id, where it still runs. */
export const running = Effect.fnUntraced(function*(dir: string, name: string) {
  const recorded = yield* readJson(pidFile(dir, name), Running)
  if (recorded === undefined) return undefined
  return (yield* startOf(recorded.pid)) === recorded.started ? recorded.pid : undefined
})

const signal = (pid: number, name: NodeJS.Signals) =>
  Effect.sync(() => {
    try {
      process.kill(pid, name)
    } catch {
      // Gone in between.
    }
  })

const gone = (dir: string, name: string, limit: Duration.Duration) =>
  running(dir, name).pipe(
    Effect.repeat({ while: (pid) => pid !== undefined, schedule: Schedule.spaced(stateEvery) }),
    Effect.timeoutOption(limit),
    Effect.map((answer) => answer._tag === "Some")
  )

/** Ends the process at once, and returns when it is gone. */
export const kill = Effect.fnUntraced(function*(dir: string, name: string) {
  const pid = yield* running(dir, name)
  if (pid !== undefined) {
    yield* signal(pid, "SIGKILL")
    yield* gone(dir, name, killLimit)
  }
  yield* remove(pidFile(dir, name))
})

/** Asks the process to end, and kills it where it has not after 20 s. */
export const stop = Effect.fnUntraced(function*(dir: string, name: string) {
  const pid = yield* running(dir, name)
  if (pid !== undefined) {
    yield* signal(pid, "SIGTERM")
    if (!(yield* gone(dir, name, stopLimit))) {
      yield* Effect.logWarning("does not end, killing it").pipe(Effect.annotateLogs({ server: name, pid }))
    }
  }
  yield* kill(dir, name)
})

export interface Launch {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

const openLog = (path: string) =>
  Effect.acquireRelease(
    attempt(path, async () => {
      const size = await fs.stat(path).then((stat) => stat.size, () => 0)
      if (size > logBytesMax) await fs.rename(path, `${path}.1`)
      const handle = await fs.open(path, "a", 0o600)
      return { handle, size: (await handle.stat()).size }
    }),
    ({ handle }) => Effect.promise(() => handle.close())
  )

const spawned = (dir: string, name: string, { args, command, env }: Launch, fd: number) =>
  Effect.async<number, StartFailed>((resume) => {
    const child = spawn(command, args, { cwd: dir, env: { ...process.env, ...env }, detached: true, stdio: ["ignore", fd, fd] })
    child.on("error", (cause) => resume(Effect.fail(new StartFailed({ server: name, reason: reasonOf(cause), log: "" }))))
    child.on("spawn", () => resume(Effect.succeed(child.pid!)))
    child.unref()
  })

/** Starts and records it in one step that no interruption divides. Answers where its part of the log begins. */
const launch = Effect.fnUntraced(function*(dir: string, name: string, program: Launch) {
  const log = yield* openLog(logFile(dir, name))
  const pid = yield* spawned(dir, name, program, log.handle.fd)
  const started = yield* startOf(pid)
  if (started !== undefined) yield* writeWhole(pidFile(dir, name), JSON.stringify({ pid, started }))
  return log.size
}, Effect.scoped, Effect.uninterruptible)

const readyEvery = Duration.millis(100)

/** Starts a process and waits until `ready` succeeds. A process that does not get there is ended. */
export const start = Effect.fnUntraced(function*<E extends { readonly message: string }>(
  dir: string,
  name: string,
  program: Launch,
  ready: Effect.Effect<unknown, E>,
  limit: Duration.Duration
): Effect.fn.Return<void, StartFailed | StackUnusable> {
  const logOffset = yield* launch(dir, name, program)
  const failed = (reason: string) =>
    Effect.flatMap(tail(logFile(dir, name), logOffset), (log) => new StartFailed({ server: name, reason, log }))
  let last = ""
  const wait = Effect.gen(function*() {
    for (;;) {
      const answer = yield* Effect.either(ready)
      // Asked in this order: what answers on the port of a process that ended is another program.
      if ((yield* running(dir, name)) === undefined) return yield* failed("it ended")
      if (answer._tag === "Right") return
      last = answer.left.message
      yield* Effect.sleep(readyEvery)
    }
  })
  yield* wait.pipe(
    Effect.timeoutOption(limit),
    Effect.flatMap((done) => done._tag === "Some" ? Effect.void : failed(`it was not ready after ${Duration.format(limit)}: ${last}`)),
    Effect.onError(() => Effect.ignore(kill(dir, name)))
  )
})
