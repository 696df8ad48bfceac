/**
 * One process at a time changes a stack. `<dir>/lock` names its holder; a lock whose holder is gone is taken over, so nothing has to be cleaned
 * up by hand after a crash.
 */
import { Duration, Effect, Schedule, Schema } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { StackUnusable } from "../StackError.ts"
import { startOf } from "./Detached.ts"
import { attempt, codeOf, readIfThere, secret } from "./Files.ts"

const Holder = Schema.parseJson(Schema.Struct({ pid: Schema.Number, started: Schema.String }))

const retryEvery = Duration.millis(100)
/** As long as the slowest change, which builds programs first. */
const waitLimit = Duration.minutes(20)

const isHeld = (text: string) =>
  Schema.decode(Holder)(text).pipe(
    Effect.flatMap(({ pid, started }) => Effect.map(startOf(pid), (found) => found === started)),
    Effect.orElseSucceed(() => false)
  )

/** Makes the file whole, where it is absent. Answers whether it did. */
const place = (path: string, text: string) =>
  attempt(path, async () => {
    const temporary = `${path}.${secret(4)}.tmp`
    await fs.writeFile(temporary, text, { mode: 0o600 })
    try {
      await fs.link(temporary, path)
      return true
    } catch (cause) {
      if (codeOf(cause) !== "EEXIST") throw cause
      return false
    } finally {
      await fs.rm(temporary, { force: true })
    }
  })

/** Removes a lock that its holder left. Moved first and looked at then: meanwhile another process may have done the same and hold a new one. */
const breakLock = (path: string, stale: string) =>
  attempt(path, async () => {
    const aside = `${path}.${secret(4)}.stale`
    try {
      await fs.rename(path, aside)
      if ((await fs.readFile(aside, "utf8")) !== stale) await fs.link(aside, path)
    } catch (cause) {
      if (!["ENOENT", "EEXIST"].includes(codeOf(cause))) throw cause
    } finally {
      await fs.rm(aside, { force: true })
    }
  })

const take = Effect.fnUntraced(function*(path: string, own: string) {
  if (yield* place(path, own)) return true
  const held = yield* readIfThere(path)
  if (held !== undefined && !(yield* isHeld(held))) yield* breakLock(path, held)
  return false
})

/** Runs an effect while no other process runs one on the same folder. */
export const withLock = <A, E, R>(dir: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StackUnusable, R> => {
  const path = join(dir, "lock")
  const acquire = Effect.gen(function*() {
    // Unlike any other, also from one and the same process.
    const own = JSON.stringify({ pid: process.pid, started: yield* startOf(process.pid), use: secret(4) })
    yield* take(path, own).pipe(
      Effect.repeat({ until: (taken) => taken, schedule: Schedule.spaced(retryEvery) }),
      Effect.interruptible,
      Effect.timeoutFail({
        duration: waitLimit,
        onTimeout: () => new StackUnusable({ path, reason: `another process has held this lock for ${Duration.format(waitLimit)}` })
      })
    )
  })
  return Effect.acquireUseRelease(acquire, () => effect, () => Effect.ignore(attempt(path, () => fs.rm(path, { force: true }))))
}
