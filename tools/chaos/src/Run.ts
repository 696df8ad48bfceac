/** One run: a stack, all processes of a lake on it, events under way, and everything killed in turn; then both verifiers. */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { ServerName } from "@voltlake/stack/Server"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as Checks from "./Checks.ts"
import * as Harm from "./Harm.ts"
import * as Lake from "./Lake.ts"
import * as Plan from "./Plan.ts"
import type { Told, Work } from "./Producer.ts"
import { Supervised } from "./Supervisor.ts"

export interface Options {
  readonly folder: string
  readonly events: number
  readonly kills: number
  readonly seed: number
  readonly bronze: number
  readonly silver: number
  readonly partitions: number
  readonly proxy: boolean
  /** Time between two kills, on average. */
  readonly everyMs: number
  readonly say: (text: string) => void
  /** Told how to end and remove what the run has started. */
  readonly onInterrupt: (cleanUp: () => Promise<void>) => void
}

interface Killed {
  readonly target: string
  readonly atMs: number
}

export interface Result {
  readonly ok: boolean
  readonly events: number
  readonly kills: number
  readonly seed: number
  /** Times that each server was killed. */
  readonly servers: Readonly<Record<string, number>>
  readonly killed: ReadonlyArray<Killed>
  readonly seconds: number
  readonly eventsPerSecond: number
  /** How long gold did not move while events waited for it, at worst, and when that began. */
  readonly longestStandstillMs: number
  readonly standstillAtMs: number
  readonly harmed: Readonly<Record<string, number>>
  readonly verifySeconds: number
  readonly problems: ReadonlyArray<string>
}

const watchEveryMs = 250
/** Longer than any take-over: gold not moving for so long, with events waiting, is a hang. */
const standstillLimitMs = 120_000
const isServer = (target: string): target is ServerName => Lake.serverNames.includes(target as ServerName)

const names = (stage: string, count: number) => Array.from({ length: count }, (_, at) => `${stage}-${at + 1}`)

/** Looks at gold again and again, and knows how long it once stood still while events waited for it. */
class Watch {
  longestMs = 0
  longestSinceMs = 0
  left = Infinity
  private at = -1
  private movedMs = performance.now()
  private isOn = true
  private readonly loop: Promise<void>

  constructor(private readonly lake: Lake.Lake) {
    this.loop = this.run()
  }

  private async run() {
    while (this.isOn) {
      const gold = await this.lake.goldAt()
      const ends = gold === undefined ? undefined : await this.lake.logEnds().catch(() => undefined)
      const nowMs = performance.now()
      if (gold !== undefined && ends !== undefined) {
        this.left = Lake.lag(gold, ends)
        const at = Array.from(gold.values()).reduce((total, offset) => total + offset, 0)
        if (at !== this.at || this.left === 0) {
          this.at = at
          this.movedMs = nowMs
        }
      }
      if (nowMs - this.movedMs > this.longestMs) {
        this.longestMs = nowMs - this.movedMs
        this.longestSinceMs = this.movedMs
      }
      await sleep(watchEveryMs)
    }
  }

  get standstillMs(): number {
    return performance.now() - this.movedMs
  }

  async stop() {
    this.isOn = false
    await this.loop
  }
}

/** The tool's own producer, which goes on after its last acknowledged batch each time it is started. */
const producerOf = (lake: Lake.Lake, options: Options, acknowledgedFile: string, work: { next: number }, perSecond: number) => ({
  name: "producer",
  app: "chaos",
  env: lake.env,
  ends: true,
  args: () => {
    const told: Work = {
      brokers: lake.env["KAFKA_BOOTSTRAP_SERVERS"]!,
      topic: lake.topic,
      partitions: lake.partitions,
      seed: options.seed,
      from: work.next,
      to: options.events,
      perSecond
    }
    return ["produce", "--work", JSON.stringify(told)]
  },
  onLine: (line: string) => {
    const { acknowledged, next } = JSON.parse(line) as Told
    appendFileSync(acknowledgedFile, acknowledged.map((one) => `${JSON.stringify(one)}\n`).join(""))
    work.next = next
  }
})

/** Kills by plan. A server is started again after its time away. */
const harass = async (lake: Lake.Lake, plan: ReadonlyArray<Plan.Kill>, running: ReadonlyMap<string, Supervised>, startedMs: number, say: Options["say"]) => {
  const killed: Array<Killed> = []
  const restarts: Array<Promise<void>> = []
  for (const { atMs, awayMs, target } of plan) {
    await sleep(Math.max(0, atMs - (performance.now() - startedMs)))
    const nowMs = Math.round(performance.now() - startedMs)
    if (isServer(target)) {
      await lake.killServer(target)
      say(`${(nowMs / 1000).toFixed(1)} s: killed ${target}, away for ${awayMs} ms`)
      // Others are killed meanwhile.
      restarts.push(sleep(awayMs ?? 0).then(() => lake.startServer(target)))
    } else {
      // One that has ended by itself is between two starts: killed once it runs again.
      while (!(await running.get(target)!.kill())) {
        if (running.get(target)!.isDone) break
        await sleep(watchEveryMs)
      }
      say(`${(nowMs / 1000).toFixed(1)} s: killed ${target}`)
    }
    killed.push({ target, atMs: nowMs })
  }
  await Promise.all(restarts)
  return killed
}

const drain = async (watch: Watch, supervised: ReadonlyArray<Supervised>): Promise<ReadonlyArray<string>> => {
  while (watch.left > 0) {
    if (watch.standstillMs > standstillLimitMs) {
      return [
        `gold stood still for ${standstillLimitMs / 1000} s with ${watch.left} offsets to go`,
        ...supervised.map((one) => `${one.program.name} said last: ${one.lastWords(1).join(" ")}`)
      ]
    }
    await sleep(watchEveryMs)
  }
  return []
}

/** Everything is made, harassed, verified and removed; logs stay in the folder. */
export const run = async (options: Options): Promise<Result> => {
  const { events, folder, kills, say, seed } = options
  const logs = join(folder, "logs")
  mkdirSync(logs, { recursive: true })
  const lake = await Lake.open(folder, options.partitions)
  const harm = options.proxy ? await Harm.start(lake.env["S3_ENDPOINT"]!, seed) : undefined
  const env = harm === undefined ? lake.env : { ...lake.env, S3_ENDPOINT: harm.endpoint }
  const acknowledgedFile = join(folder, "acknowledged.ndjson")
  writeFileSync(acknowledgedFile, "")
  const supervised: Array<Supervised> = []
  const start = (program: Supervised["program"]) => {
    const one = new Supervised(program, logs)
    supervised.push(one)
    return one
  }
  const problems: Array<string> = []
  const cleanUp = async () => {
    await Promise.all(supervised.map((one) => one.stop("SIGKILL")))
    await harm?.close()
    await lake.close()
  }
  options.onInterrupt(cleanUp)
  try {
    const stages = [...names("bronze", options.bronze), ...names("silver", options.silver), "gold", "console", "ingestor"]
    const targets = [...stages, "producer"]
    const random = SeededRandom.make(seed)
    const plan = Plan.make(random, targets, kills, options.everyMs, Lake.serverNames)
    // The last kill meets a lake that still has events coming in.
    const perSecond = Math.max(500, Math.ceil(events / (plan.at(-1)!.atMs / 1000 + 1)))
    const work = { next: 0 }
    const startedMs = performance.now()
    const settings = { ...env, VOLTLAKE_HEALTH_PORT: "0", VOLTLAKE_PORT: "0", SIMULATOR_EVENTS_PER_SECOND: "50" }
    for (const name of stages) start({ name, app: name.replace(/-\d+$/, ""), env: settings })
    const producer = start(producerOf(lake, options, acknowledgedFile, work, perSecond))
    const running = new Map(supervised.map((one) => [one.program.name, one] as const))
    const watch = new Watch(lake)
    const killed = await harass(lake, plan, running, startedMs, say)
    await harm?.calm()
    say("no more kills; waiting for the producer and for gold")
    await producer.done
    await running.get("ingestor")!.stop()
    // What the log holds now is all: gold is measured against it once more.
    watch.left = Infinity
    problems.push(...await drain(watch, supervised))
    const seconds = (performance.now() - startedMs) / 1000
    await watch.stop()
    for (const one of supervised.filter(({ program }) => program.name !== "producer" && program.name !== "ingestor")) {
      const code = await one.stop()
      if (code !== 0) problems.push(`${one.program.name} did not end in order, but with ${code}`)
    }
    for (const { code, name } of supervised.flatMap((one) => one.ownEnds)) problems.push(`${name} ended by itself, with ${code}`)
    problems.push(...await Checks.own(lake.env))
    const verdict = await Checks.independent(lake.env, acknowledgedFile)
    problems.push(...verdict.problems)
    const ofServers = Object.fromEntries(Lake.serverNames.map((name) => [name, killed.filter(({ target }) => target === name).length]))
    return {
      ok: problems.length === 0,
      events: verdict.events,
      kills: killed.filter(({ target }) => !isServer(target)).length,
      seed,
      servers: ofServers,
      killed,
      seconds: Math.round(seconds * 10) / 10,
      eventsPerSecond: Math.round(verdict.events / seconds),
      longestStandstillMs: Math.round(watch.longestMs),
      standstillAtMs: Math.round(watch.longestSinceMs - startedMs),
      harmed: harm?.harmed() ?? {},
      verifySeconds: verdict.seconds,
      problems
    }
  } finally {
    await cleanUp()
  }
}
