/**
 * The command line `voltlake`: names, options and help. What a command does is loaded only when it runs, so that `--help` answers at once.
 *
 * With `--json` a command prints one JSON document on standard output and nothing else there; logs and progress go to standard error.
 */
import { Args, Command, Options } from "@effect/cli"
import { Duration, Effect, Option } from "effect"
import * as DataDir from "@voltlake/adapters/DataDir"
import { portConfig, sourceConfig } from "./StartConfig.ts"

const dataDir = Options.text("data-dir").pipe(
  Options.withPseudoName("DIR"),
  Options.withDescription("Folder of the lake; cannot be moved later"),
  Options.withFallbackConfig(DataDir.pathConfig)
)

const json = Options.boolean("json").pipe(Options.withDescription("Print one JSON document, nothing else"))

const load = <A, E, R>(program: () => Promise<Effect.Effect<A, E, R>>): Effect.Effect<A, E, R> =>
  Effect.flatten(Effect.promise(program))

const start = Command.make(
  "start",
  {
    dataDir,
    port: Options.integer("port").pipe(
      Options.withPseudoName("N"),
      Options.withDescription("Port of the page; 0 takes any free one"),
      Options.filterMap(
        (port) => (port >= 0 && port <= 65_535 ? Option.some(port) : Option.none()),
        "--port must be from 0 to 65535"
      ),
      Options.withFallbackConfig(portConfig)
    ),
    source: Options.choice("source", ["simulator", "none"]).pipe(
      Options.withDescription("Where events come from"),
      Options.withFallbackConfig(sourceConfig)
    )
  },
  (options) => load(() => import("./Start.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Run the whole lakehouse in this process, until Ctrl-C"))

const replay = Command.make(
  "replay",
  {
    files: Args.text({ name: "FILE" }).pipe(
      Args.withDescription("NDJSON, one event a line, plain or gzip; - is standard input"),
      Args.atLeast(1)
    ),
    dataDir,
    speed: Options.text("speed").pipe(
      Options.withPseudoName("N|max"),
      Options.withDescription("Multiple of real time by event_time, or max"),
      Options.withDefault("max")
    ),
    wait: Options.boolean("wait").pipe(Options.withDescription("Return when every event is in gold, with a summary")),
    json
  },
  (options) => load(() => import("./Replay.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Send recorded events; works alone, or beside a running start"))

const status = Command.make(
  "status",
  { dataDir, json },
  (options) => load(() => import("./Status.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Show rows, position and lag of every stage"))

const verify = Command.make(
  "verify",
  { dataDir, json },
  (options) => load(() => import("./Verify.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Compare counters with the rows that are there; exit 1 on any breach"))

const sql = Command.make(
  "sql",
  {
    query: Args.text({ name: "QUERY" }).pipe(Args.withDescription("One statement, e.g. \"SELECT count(*) FROM bronze.telemetry_raw\"")),
    dataDir,
    json
  },
  (options) => load(() => import("./Sql.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Query bronze.*, silver.* and gold.* with DuckDB's SQL, reading only"))

const pg = Command.make(
  "pg",
  { dataDir, json },
  (options) => load(() => import("./Pg.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Print the URL of the PostgreSQL in use, with its password; starts nothing"))

const adopt = Command.make(
  "adopt",
  {
    dataDir,
    topic: Options.text("topic").pipe(Options.withPseudoName("TOPIC"), Options.withDescription("Without it KAFKA_TOPIC"), Options.optional),
    force: Options.boolean("force").pipe(Options.withDescription("Also where the log seems to be the one that was read before")),
    json
  },
  (options) => load(() => import("./LogAdopt.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Go on with the log that stands under the topic's name now, though it is another than before"))

const log = Command.make("log").pipe(Command.withDescription("What an operator decides about the log"), Command.withSubcommands([adopt]))

const maintain = Command.make(
  "maintain",
  {
    task: Args.choice([["retention", "retention"], ["compact", "compact"], ["manifests", "manifests"], ["expire", "expire"], ["orphans", "orphans"]] as const, { name: "TASK" }).pipe(
      Args.withDescription("retention | compact | manifests | expire | orphans; all of them, in this order, where not given"),
      Args.optional
    ),
    olderThan: Options.text("older-than").pipe(
      Options.withPseudoName("DURATION"),
      Options.withDescription("Least age of orphans, such as \"3 days\""),
      Options.withDefault("3 days"),
      // Of a commit of another engine that is under way nothing is known but its age.
      Options.filterMap(
        (text) => Option.filter(Duration.decodeUnknown(text), Duration.greaterThanOrEqualTo(Duration.hours(1))),
        "--older-than must be a duration of an hour at least, such as \"3 days\" or \"12 hours\""
      )
    ),
    dryRun: Options.boolean("dry-run").pipe(Options.withDescription("Say what would be done, and change nothing")),
    dataDir,
    json
  },
  ({ task, ...options }) => load(() => import("./Maintain.ts").then((module) => module.run({ ...options, task: Option.getOrUndefined(task) })))
).pipe(Command.withDescription("Remove days that are no longer kept, merge small files, rewrite manifests, drop old snapshots, find orphans: now, in all tables, beside running stages"))

const forget = Command.make(
  "forget",
  {
    vehicle: Args.text({ name: "VEHICLE" }).pipe(Args.withDescription("The vehicle_id")),
    dropReferences: Options.boolean("drop-references").pipe(Options.withDescription("Also drop tags and branches, which may keep rows of the vehicle")),
    dryRun: Options.boolean("dry-run").pipe(Options.withDescription("Say what would be removed, and change nothing")),
    dataDir,
    json
  },
  (options) => load(() => import("./Forget.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("Remove a vehicle's rows from all tables and snapshots, and what gold has of them"))

const table = Args.text({ name: "TABLE" }).pipe(Args.withDescription("Such as bronze.telemetry_raw"))

const snapshotId = (name: string, description: string) =>
  Options.text(name).pipe(
    Options.withPseudoName("ID"),
    Options.withDescription(description),
    Options.filterMap((text) => (/^\d{1,19}$/.test(text) ? Option.some(BigInt(text)) : Option.none()), `--${name} must be a snapshot's id`)
  )

const atSnapshot = snapshotId("snapshot", "A snapshot's id; without it the current one").pipe(Options.optional)

const tablesModule = () => import("./Tables.ts")

const tables = Command.make("tables").pipe(
  Command.withDescription("Look at the lake's Iceberg tables, tag them and roll them back"),
  Command.withSubcommands([
    Command.make("show", { table: Args.optional(table), dataDir, json }, (options) => load(() => tablesModule().then((module) => module.show(options)))).pipe(
      Command.withDescription("All tables, or one with its columns, partitions, references and properties")
    ),
    Command.make("snapshots", { table, dataDir, json }, (options) => load(() => tablesModule().then((module) => module.snapshots(options)))).pipe(
      Command.withDescription("Every snapshot that is kept")
    ),
    Command.make("history", { table, dataDir, json }, (options) => load(() => tablesModule().then((module) => module.history(options)))).pipe(
      Command.withDescription("When which snapshot was the current one")
    ),
    Command.make("files", { table, snapshot: atSnapshot, dataDir, json }, (options) => load(() => tablesModule().then((module) => module.files(options)))).pipe(
      Command.withDescription("The data files of a snapshot")
    ),
    Command.make("preview", {
      table,
      file: Options.text("file").pipe(
        Options.withPseudoName("FILE"),
        Options.withDescription("A file's location, or its name where it is of the snapshot; without it the newest one of the snapshot"),
        Options.optional
      ),
      rows: Options.integer("rows").pipe(
        Options.withPseudoName("N"),
        Options.withDescription("How many rows; 0 for the footer alone"),
        Options.withDefault(10),
        Options.filterMap((n) => (n >= 0 ? Option.some(n) : Option.none()), "--rows must not be negative")
      ),
      snapshot: atSnapshot,
      dataDir,
      json
    }, (options) => load(() => import("./Preview.ts").then((module) => module.preview(options)))).pipe(
      Command.withDescription("The first rows of a data file, and what its footer says of it")
    ),
    Command.make("explain", {
      table,
      where: Options.text("where").pipe(
        Options.withPseudoName("CONDITION"),
        Options.withDescription("Such as \"event_ts >= 2026-11-24T00:00:00Z\"; of several all must hold"),
        Options.repeated
      ),
      snapshot: atSnapshot,
      dataDir,
      json
    }, (options) => load(() => tablesModule().then((module) => module.explain(options)))).pipe(
      Command.withDescription("What a reader with these conditions would read, and why not the rest")
    ),
    Command.make("tag", {
      table,
      name: Args.text({ name: "NAME" }).pipe(Args.withDescription("The tag")),
      snapshot: atSnapshot,
      remove: Options.boolean("remove").pipe(Options.withDescription("Take the tag away")),
      dataDir,
      json
    }, (options) => load(() => tablesModule().then((module) => module.tag(options)))).pipe(
      Command.withDescription("Name a snapshot, so that it is kept")
    ),
    Command.make("rollback", {
      table,
      to: snapshotId("to", "The snapshot to go back to"),
      acceptLoss: Options.boolean("accept-loss").pipe(Options.withDescription("Also to where the log holds nothing any more")),
      dataDir,
      json
    }, (options) => load(() => tablesModule().then((module) => module.rollback(options)))).pipe(
      Command.withDescription("Make an earlier snapshot the current one, with its position: reading goes on from there")
    ),
    Command.make("acknowledge", {
      table,
      rows: Options.integer("rows").pipe(Options.withPseudoName("N"), Options.withDescription("How many rows are missing, as `voltlake verify` says")),
      dataDir,
      json
    }, (options) => load(() => tablesModule().then((module) => module.acknowledge(options)))).pipe(
      Command.withDescription("Take rows that another engine removed as removed on purpose")
    ),
    Command.make("register", { dataDir, json }, (options) => load(() => tablesModule().then((module) => module.register(options)))).pipe(
      Command.withDescription("Rebuild a lost catalog from the metadata files that are there")
    ),
    Command.make("recover-position", { table, dataDir, json }, (options) => load(() => tablesModule().then((module) => module.recoverPosition(options)))).pipe(
      Command.withDescription("Compute a table's position from its rows, where no snapshot says it any more")
    )
  ])
)

const dagName = Args.text({ name: "DAG" }).pipe(Args.withDescription("Such as silver_to_gold_batch"))
const runId = Args.text({ name: "RUN" }).pipe(Args.withDescription("A run's id, as `voltlake dag runs` lists it"))
const wait = Options.boolean("wait").pipe(Options.withDescription("Return when it has ended, and orchestrate meanwhile where no other process does; exit 1 unless it succeeded"))

const instant = (name: string, description: string) =>
  Options.text(name).pipe(
    Options.withPseudoName("TIME"),
    Options.withDescription(description),
    Options.filterMap(
      (text) => (Number.isNaN(Date.parse(text)) ? Option.none() : Option.some(new Date(text))),
      `--${name} must be a time such as 2026-11-01 or 2026-11-01T12:00:00Z`
    )
  )

const dagModule = () => import("./Dag.ts")

const dag = Command.make("dag").pipe(
  Command.withDescription("See and run the lake's DAGs"),
  Command.withSubcommands([
    Command.make("list", { dataDir, json }, (options) => load(() => dagModule().then((module) => module.list(options)))).pipe(
      Command.withDescription("All DAGs with their schedules, policies and last runs")
    ),
    Command.make("runs", {
      name: Args.optional(dagName),
      limit: Options.integer("limit").pipe(Options.withPseudoName("N"), Options.withDescription("How many at most"), Options.withDefault(20)),
      dataDir,
      json
    }, (options) => load(() => dagModule().then((module) => module.runs(options)))).pipe(Command.withDescription("The newest runs, of one DAG or of all")),
    Command.make("show", { run: runId, dataDir, json }, (options) => load(() => dagModule().then((module) => module.show(options)))).pipe(
      Command.withDescription("A run with its tasks, attempts and what came of them")
    ),
    Command.make("logs", { run: runId, dataDir, json }, (options) => load(() => dagModule().then((module) => module.logs(options)))).pipe(
      Command.withDescription("What a run's tasks logged")
    ),
    Command.make("trigger", {
      name: dagName,
      parameters: Options.keyValueMap("param").pipe(
        Options.withDescription("KEY=VALUE for the run's tasks; may be repeated"),
        Options.map((map) => Array.from(map)),
        Options.withDefault([])
      ),
      wait,
      dataDir,
      json
    }, (options) => load(() => dagModule().then((module) => module.trigger(options)))).pipe(Command.withDescription("Ask for a run now")),
    Command.make("pause", { name: dagName, dataDir, json }, (options) => load(() => dagModule().then((module) => module.pause(options)))).pipe(
      Command.withDescription("Begin no run by the schedule until it is resumed")
    ),
    Command.make("resume", { name: dagName, dataDir, json }, (options) => load(() => dagModule().then((module) => module.resume(options)))).pipe(
      Command.withDescription("Run by the schedule again")
    ),
    Command.make("cancel", { run: runId, dataDir, json }, (options) => load(() => dagModule().then((module) => module.cancel(options)))).pipe(
      Command.withDescription("End a run")
    ),
    Command.make("backfill", {
      name: dagName,
      from: instant("from", "The first tick's time, included"),
      to: instant("to", "The last tick's time, not included"),
      parallel: Options.integer("parallel").pipe(Options.withPseudoName("N"), Options.withDescription("Runs under way at once"), Options.withDefault(1)),
      wait,
      dataDir,
      json
    }, (options) => load(() => dagModule().then((module) => module.backfill(options)))).pipe(Command.withDescription("Ask for a run for each tick of a time"))
  ])
)

const events = Command.make(
  "events",
  {
    follow: Options.boolean("follow").pipe(Options.withDescription("Go on with what comes, until Ctrl-C; with --json one document a line")),
    all: Options.boolean("all").pipe(Options.withDescription("Also commits to tables, of which there may be several a second")),
    severity: Options.choice("severity", ["INFO", "WARNING", "ERROR"]).pipe(
      Options.withDescription("This and what is worse: ERROR is for somebody to act on"),
      Options.optional
    ),
    kind: Options.text("kind").pipe(
      Options.withPseudoName("KIND"),
      Options.withDescription("Of this kind alone, such as table_committed, run_failed, stage_stopped, gold_differs or equation_breach"),
      Options.optional
    ),
    limit: Options.integer("limit").pipe(Options.withPseudoName("N"), Options.withDescription("How many of the newest"), Options.withDefault(50)),
    dataDir,
    json
  },
  (options) => load(() => import("./Events.ts").then((module) => module.run(options)))
).pipe(Command.withDescription("What happened that an operator should know: runs, differences, breaches, stages that stopped, rows that other engines removed"))

const modelsModule = () => import("./Models.ts")

const models = Command.make("models").pipe(
  Command.withDescription("Gold's models"),
  Command.withSubcommands([
    Command.make("list", { dataDir, json }, (options) => load(() => modelsModule().then((module) => module.list(options)))).pipe(
      Command.withDescription("All models, and what is wrong with one")
    ),
    Command.make("apply", { file: Args.text({ name: "FILE" }).pipe(Args.withDescription("SQL with a header, as in models/gold")), dataDir, json }, (options) =>
      load(() => modelsModule().then((module) => module.apply(options)))).pipe(
        Command.withDescription("Check a model and register it: its tables come with the next run, and need no restart")
      )
  ])
)

const command = Command.make("voltlake").pipe(
  Command.withDescription("A real-time medallion lakehouse for vehicle telemetry"),
  Command.withSubcommands([start, replay, status, verify, sql, pg, tables, maintain, forget, dag, models, events, log])
)

const parse = Command.run(command, { name: "Voltlake", version: "0.1.0", executable: "voltlake" })

/** Runs the command line given as `process.argv` is. The parser takes no option after `-` (standard input), so that goes last. */
export const run = (argv: ReadonlyArray<string>) =>
  parse(argv.includes("-") ? [...argv.filter((argument) => argument !== "-"), "-"] : argv)
