/** What every command needs: the data directory opened and the embedded lake over it. */
import { Duration, Effect, Layer, Schedule } from "effect"
import * as DataDir from "@voltlake/embedded/DataDir"
import * as EmbeddedLake from "@voltlake/embedded/EmbeddedLake"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as Stage from "@voltlake/stage-runner/Stage"

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    // Somebody else's process is alive all the same.
    return (cause as NodeJS.ErrnoException).code === "EPERM"
  }
}

export const openDataDir = (path: string) => DataDir.open(path, { pid: process.pid, isAlive })

export const layer = (dataDir: DataDir.DataDir) => Layer.provideMerge(Stage.layerHealth, EmbeddedLake.layer(dataDir))

/** The lock of the process that runs the stages over a data directory. */
export const stagesLock = "voltlake stages"

const retryEvery = Duration.seconds(1)

/**
 * Keeps the stages' lock for as long as the scope is open: takes it again where the connection that held it was lost, and fails with `LockHeld`
 * once somebody else has it. Commits are safe meanwhile, each checks its own position.
 */
export const keepLock = Effect.fn("Lake.keepLock")(function*(lock: SessionLock.SessionLock, purpose: string) {
  let held = lock
  while (true) {
    yield* held.lost
    yield* Effect.logWarning("connection to PostgreSQL lost, taking the lock again")
    held = yield* SessionLock.acquire(stagesLock, purpose).pipe(
      Effect.retry({ while: (error) => error._tag === "SqlError", schedule: Schedule.spaced(retryEvery) })
    )
  }
})
