/** Replay of a file through all stages of an embedded lake, in one process: events per second, and the memory of that process. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Events from "./Events.ts"
import * as Processes from "./Processes.ts"

export interface EmbeddedResult {
  readonly events: number
  readonly bytesPerEvent: number
  readonly eventsPerSecond: number
  readonly seconds: number
  readonly duplicates: number
  readonly peakMemoryBytes: number
}

export const run = async (events: number, repeats: number): Promise<EmbeddedResult> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-"))
  try {
    const file = join(folder, "events.ndjson")
    const { bytes } = await Events.writeFile(file, events, repeats)
    const done = await Processes.run(["replay", file, "--data-dir", join(folder, "lake"), "--wait", "--json"])
    const summary = JSON.parse(done.output)
    return {
      events,
      bytesPerEvent: Math.round(bytes / events),
      eventsPerSecond: summary.eventsPerSecond,
      seconds: summary.seconds,
      duplicates: summary.duplicates,
      peakMemoryBytes: done.peakMemoryBytes
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
