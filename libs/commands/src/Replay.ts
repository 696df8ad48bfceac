/**
 * `voltlake replay`: sends recorded events, and with `--wait` stays until the last of them is in gold.
 *
 * Beside a running `start` its stages do the work. Alone it runs the stages itself; should the other process end while this one waits, it takes over.
 */
import { FileSystem } from "@effect/platform"
import { PgClient } from "@effect/sql-pg"
import { SingleBar } from "cli-progress"
import { Clock, Console, Duration, Effect, Random, Schedule, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import * as GoldProgress from "@voltlake/gold/GoldProgress"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Replay from "@voltlake/ingest/Replay"
import { StageHealth } from "@voltlake/stage-runner/Stage"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"
import * as ReplaySummary from "./ReplaySummary.ts"
import * as Stages from "./Stages.ts"

export interface ReplayOptions {
  readonly files: ReadonlyArray<string>
  readonly dataDir: string
  readonly speed: string
  readonly wait: boolean
  readonly json: boolean
}

export class InvalidSpeed extends Schema.TaggedError<InvalidSpeed>()("InvalidSpeed", { value: Schema.String }) {
  override get message() {
    return `--speed ${this.value} is neither max nor a number above 0 (2 is twice real time)`
  }
}

/** A stage of this process stopped before all events were through. */
export class ReplayStuck extends Schema.TaggedError<ReplayStuck>()("ReplayStuck", { reason: Schema.String }) {
  override get message() {
    return `the replay's events are in the log, but did not all get to gold: ${this.reason}`
  }
}

const parseSpeed = (text: string): Effect.Effect<number | "max", InvalidSpeed> => {
  const speed = Number(text)
  if (text === "max") return Effect.succeed(text)
  return Number.isFinite(speed) && speed > 0 ? Effect.succeed(speed) : new InvalidSpeed({ value: text })
}

/** All files are looked at before the first event goes out. */
const totalBytes = Effect.fnUntraced(function*(files: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const sizes = yield* Effect.forEach(files, (file) =>
    file === "-" ? Effect.succeed(0) : fs.stat(file).pipe(
      Effect.mapError((error) =>
        new Replay.ReplayFileError({
          file,
          reason: error._tag === "SystemError" && error.reason === "NotFound" ? "there is no such file" : error.message
        })
      ),
      Effect.flatMap((info) =>
        info.type === "File" ? Effect.succeed(Number(info.size)) : new Replay.ReplayFileError({ file, reason: "it is not a file" })
      )
    ))
  return sizes.reduce((sum, size) => sum + size, 0)
})

/** On a terminal only: logs and pipes stay readable. */
const progressBar = (total: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const bar = new SingleBar({
        format: "{bar} {percentage}% | {events} events | {duration_formatted}",
        stream: process.stderr,
        noTTYOutput: false,
        clearOnComplete: true
      })
      if (process.stderr.isTTY) bar.start(Math.max(total, 1), 0, { events: 0 })
      return bar
    }),
    (bar) => Effect.sync(() => bar.stop())
  )

const pollEvery = Duration.millis(100)
const takeOverEvery = Duration.seconds(1)
const sayEvery = Duration.seconds(30)

/** Runs each stage as soon as, and for as long as, nobody else does. */
const stagesWhereMissing = (home: Stages.Home) =>
  Effect.forEach(Stages.names, (stage) =>
    Effect.retry(Stages.run(stage, home), {
      while: (error) => error._tag === "StageTaken",
      schedule: Schedule.spaced(takeOverEvery)
    }), { concurrency: "unbounded", discard: true })

const waitForGold = Effect.fnUntraced(function*(ends: Position.Position) {
  const sql = yield* PgClient.PgClient
  const health = yield* StageHealth
  const lagNow = Effect.map(GoldProgress.read(sql), ({ progress }) => Position.lag(Progress.position(progress), ends))
  const say = Effect.flatMap(lagNow, (lag) =>
    Effect.logInfo("waiting for events to get to gold").pipe(Effect.annotateLogs({ left: lag })))
  const done = Effect.gen(function*() {
    const stopped = (yield* health.all).find((stage) => stage.state === "stopped")
    if (stopped !== undefined) return yield* new ReplayStuck({ reason: stopped.reason })
    return (yield* lagNow) === 0n
  })
  const telling = Effect.forever(Effect.zipRight(Effect.sleep(sayEvery), Effect.ignore(say)))
  yield* Effect.raceFirst(
    done.pipe(
      // A database that is away for a moment is no reason to give up.
      Effect.catchTag("SqlError", () => Effect.succeed(false)),
      Effect.repeat({ until: (reached) => reached, schedule: Schedule.spaced(pollEvery) })
    ),
    telling
  )
})

const replay = Effect.fnUntraced(function*(options: ReplayOptions, checked: Checked, home: Stages.Home) {
  const { bytes: total, speed } = checked
  const bar = yield* progressBar(total)
  yield* LakeSetup.ensure(home.settings.ingest)
  const ingest = yield* Ingest.make(home.settings.ingest)
  const startMs = yield* Clock.currentTimeMillis
  const id = `${startMs}-${yield* Random.nextIntBetween(0, 2 ** 31)}`
  const send = Replay.run({
    id,
    files: options.files,
    speed,
    onProgress: ({ bytes, events }) => Effect.sync(() => bar.update(bytes, { events }))
  }).pipe(Effect.provideService(Ingest.Ingest, ingest), Effect.ensuring(Effect.sync(() => bar.stop())))
  const seconds = Effect.map(Clock.currentTimeMillis, (nowMs) => (nowMs - startMs) / 1000)

  if (!options.wait) {
    const { events } = yield* send
    const took = yield* seconds
    const summary = { events, seconds: took }
    return yield* options.json ? Output.json(summary) : Console.log(`${events} events are in the log, sent in ${took.toFixed(1)} s`)
  }
  const whole = Effect.gen(function*() {
    const { events, ranges: sent } = yield* send
    // As rows name the log: it may have been adopted.
    const ranges = LogLineage.named(yield* LogLineage.of((yield* LakeTables.load(telemetryRaw)).metadata), sent)
    yield* waitForGold(ranges.reduce((ends, range) => Position.max(ends, Position.make([[range, range.end]])), Position.empty))
    return yield* ReplaySummary.count(events, ranges, yield* seconds)
  })
  const summary = yield* Effect.raceFirst(whole, Effect.zipRight(stagesWhereMissing(home), Effect.never))
  yield* options.json ? Output.json(summary) : show(summary)
})

const show = (summary: ReplaySummary.ReplaySummary) =>
  Output.table(["replay", ""], [
    ["events", summary.events],
    ["bronze", summary.bronze],
    ["silver", summary.silver],
    ["rejected", summary.rejected],
    ...Object.entries(summary.rules).map(([rule, n]) => [`  ${rule}`, n] as const),
    ["duplicates", summary.duplicates],
    ["vehicle minutes", summary.vehicleMinutes],
    ["seconds", summary.seconds],
    ["events per second", summary.eventsPerSecond]
  ])

interface Checked {
  readonly speed: number | "max"
  readonly bytes: number
}

/** What is wrong with the arguments is said before anything is opened or made. */
export const run = Effect.fn("Replay.run")(function*(options: ReplayOptions) {
  const checked: Checked = { speed: yield* parseSpeed(options.speed), bytes: yield* totalBytes(options.files) }
  yield* Lake.use(options.dataDir, (opened) => Effect.scoped(replay(options, checked, { ...opened, purpose: "voltlake replay", whenStopped: "others go on" })))
})
