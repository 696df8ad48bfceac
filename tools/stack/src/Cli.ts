/** The command line `npm run stack -- …`: names, options, and how answers are printed. */
import { Args, Command, Options } from "@effect/cli"
import { Config, Console, Effect } from "effect"
import * as Output from "@voltlake/commands/Output"
import * as Held from "./Held.ts"
import type { ServerName } from "./Server.ts"
import * as Stack from "./Stack.ts"
import { StackUnusable } from "./StackError.ts"

const serverNames: ReadonlyArray<ServerName> = ["kafka", "s3", "postgres"]

const dir = Options.text("dir").pipe(
  Options.withPseudoName("DIR"),
  Options.withDescription("Folder of the stack"),
  Options.withDefault(".voltlake-stack")
)

const json = Options.boolean("json").pipe(Options.withDescription("Print one JSON document, nothing else"))

const server = Args.choice(serverNames.map((name): [string, ServerName] => [name, name]), { name: "SERVER" })

const some = Args.repeated(server).pipe(Args.withDescription("Which servers; all where none is named"))

const s3 = Options.choice("s3", ["versitygw", "minio"]).pipe(
  Options.withDescription("The S3 server that a new stack gets"),
  Options.withFallbackConfig(Config.literal("versitygw", "minio")("STACK_S3").pipe(Config.withDefault("versitygw" as const)))
)

const kafkaJvm = Options.text("kafka-jvm").pipe(
  Options.withPseudoName("FLAGS"),
  Options.withDescription("Flags of Kafka's Java machine, separated by spaces"),
  Options.withFallbackConfig(Config.string("STACK_KAFKA_JVM").pipe(Config.withDefault(Stack.defaults.kafkaJvm.join(" ")))),
  Options.map((flags) => flags.split(/\s+/).filter((flag) => flag !== ""))
)

const printStatus = (folder: string, asJson: boolean) =>
  Effect.flatMap(Stack.status(folder), (rows) =>
    asJson
      ? Output.json(rows)
      : Output.table(
        ["server", "what", "state", "address", "pid", "log"],
        rows.map((row) => [row.server, row.title, row.reason ?? row.state, row.address, row.pid, row.log])
      ))

const up = Command.make("up", { dir, json, kafkaJvm, s3, some }, (options) =>
  Effect.zipRight(Stack.up(options.dir, options, options.some), printStatus(options.dir, options.json))).pipe(
    Command.withDescription("Start what does not run, and leave it running")
  )

const fetch = Command.make("fetch", { dir, json, s3 }, (options) =>
  Effect.gen(function*() {
    const rows = yield* Stack.fetch(options.dir, { ...Stack.defaults, s3: options.s3 })
    if (options.json) yield* Output.json(rows)
    else yield* Output.table(["server", "missing"], rows.map((row) => [row.server, row.missing ?? "nothing"]))
    if (rows.some(({ missing }) => missing !== null)) {
      return yield* new StackUnusable({ path: options.dir, reason: "not every server can run on this machine" })
    }
  })).pipe(Command.withDescription("Fetch and build the programs, and start nothing"))

const hold = Command.make("hold", { kafkaJvm, s3 }, Held.run).pipe(
  Command.withDescription("Run a stack in a temporary folder until standard input closes, then remove it: for test runs")
)

const down = Command.make("down", { dir, some }, (options) => Stack.down(options.dir, options.some)).pipe(
  Command.withDescription("Stop what runs; data stays")
)

const wipe = Command.make("wipe", { dir }, (options) => Stack.wipe(options.dir)).pipe(
  Command.withDescription("Stop what runs, and remove the folder with all data")
)

const status = Command.make("status", { dir, json }, (options) => printStatus(options.dir, options.json)).pipe(
  Command.withDescription("Show every server's address, process and health")
)

const restart = Command.make("restart", { dir, kafkaJvm, s3, server }, (options) => Stack.restart(options.dir, options.server, options)).pipe(
  Command.withDescription("Stop a server in order and start it again: same port, same data")
)

const kill = Command.make("kill", { dir, server }, (options) => Stack.kill(options.dir, options.server)).pipe(
  Command.withDescription("End a server as a crash would; up starts it again: same port, same data")
)

const printEnv = Effect.fnUntraced(function*(folder: string) {
  const variables = Object.entries(yield* Stack.env(folder))
  if (variables.length === 0) {
    return yield* new StackUnusable({ path: folder, reason: `no stack here; start one with: npm run stack -- up --dir ${folder}` })
  }
  // No value needs quotes: addresses, and secrets of letters and digits.
  for (const [name, value] of variables) yield* Console.log(`${name}=${value}`)
})

const env = Command.make("env", { dir }, (options) => printEnv(options.dir)).pipe(
  Command.withDescription("Print KEY=value lines of what clients need: set -a; eval \"$(npm run -s stack -- env)\"")
)

const command = Command.make("stack").pipe(
  Command.withDescription("Kafka, S3 and PostgreSQL as processes of this machine, without Docker"),
  Command.withSubcommands([up, down, wipe, status, env, restart, kill, fetch, hold])
)

export const run = Command.run(command, { name: "Stack", version: "0.1.0", executable: "npm run stack --" })
