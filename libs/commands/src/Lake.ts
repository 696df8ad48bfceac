/** What every command needs: the data directory opened and the embedded lake over it. */
import { Layer } from "effect"
import * as DataDir from "@voltlake/embedded/DataDir"
import * as EmbeddedLake from "@voltlake/embedded/EmbeddedLake"
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
