/**
 * How long others take: two bronze processes share eight partitions under a steady load, a third joins, then one is killed. Measured at gold, per
 * partition: from the moment until gold has passed what the log held then, which needs every partition to be worked again.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import * as Lake from "./Lake.ts"
import type { Work } from "./Producer.ts"
import { Supervised } from "./Supervisor.ts"

export interface Options {
  readonly folder: string
  readonly seed: number
  readonly say: (text: string) => void
  readonly onInterrupt: (cleanUp: () => Promise<void>) => void
}

export interface Result {
  readonly ok: boolean
  /** Freshness of the slowest partition with nothing happening, when the third joined, and when one was killed. */
  readonly steadyMs: number
  readonly joinMs: number
  readonly killMs: number
  readonly problems: ReadonlyArray<string>
}

const partitions = 8
const perSecond = 2_000
const pollMs = 25
const limitMs = 60_000

/** Time until gold has passed, in every partition, where the log ends now. */
const untilPassed = async (lake: Lake.Lake): Promise<number> => {
  const ends = await lake.logEnds()
  const startedMs = performance.now()
  while (performance.now() - startedMs < limitMs) {
    const gold = await lake.goldAt()
    if (gold !== undefined && Array.from(ends).every(([partition, end]) => (gold.get(partition) ?? 0) >= end)) return Math.round(performance.now() - startedMs)
    await sleep(pollMs)
  }
  throw new Error(`gold did not get to where the log ended within ${limitMs / 1000} s`)
}

/** The longest of a few measurements that follow each other, over at least so long. */
const slowest = async (lake: Lake.Lake, forMs: number): Promise<number> => {
  const startedMs = performance.now()
  let longest = 0
  while (performance.now() - startedMs < forMs) longest = Math.max(longest, await untilPassed(lake))
  return longest
}

export const run = async ({ folder, onInterrupt, say, seed }: Options): Promise<Result> => {
  const logs = join(folder, "logs")
  mkdirSync(logs, { recursive: true })
  const lake = await Lake.open(folder, partitions)
  const supervised: Array<Supervised> = []
  const start = (name: string) => {
    const one = new Supervised({ name, app: name.replace(/-\d+$/, ""), env: lake.env }, logs)
    supervised.push(one)
    return one
  }
  const cleanUp = async () => {
    await Promise.all(supervised.map((one) => one.stop("SIGKILL")))
    await lake.close()
  }
  onInterrupt(cleanUp)
  try {
    const [first] = ["bronze-1", "bronze-2", "silver-1", "gold"].map(start)
    const work: Work = { brokers: lake.env["KAFKA_BOOTSTRAP_SERVERS"]!, topic: lake.topic, partitions, seed, from: 0, to: 100_000_000, perSecond }
    supervised.push(new Supervised({ name: "producer", app: "chaos", env: lake.env, args: () => ["produce", "--work", JSON.stringify(work)], onLine: () => undefined }, logs))
    while ((await lake.goldAt()) === undefined || Array.from((await lake.logEnds()).values()).some((end) => end === 0)) await sleep(pollMs)
    await untilPassed(lake)
    const steadyMs = await slowest(lake, 5_000)
    say(`steady: ${steadyMs} ms until every partition is in gold`)
    start("bronze-3")
    const joinMs = await slowest(lake, 15_000)
    say(`a third bronze joined: ${joinMs} ms at worst`)
    // Not started again: the others have to take over.
    await first!.stop("SIGKILL")
    const killMs = await slowest(lake, 15_000)
    say(`one of three was killed: ${killMs} ms at worst`)
    return { ok: true, steadyMs, joinMs, killMs, problems: [] }
  } finally {
    await cleanUp()
  }
}
