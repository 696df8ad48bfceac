/** A job of Spark as a process of its own: `spark-submit` with our script, in the mode in which its driver runs on this machine. */
import { Command, CommandExecutor, FileSystem, Path } from "@effect/platform"
import { Chunk, Duration, Effect, Either, Option, Redacted, Schema, Stream } from "effect"
import { fileURLToPath } from "node:url"
import type { Job } from "./SparkJob.ts"
import type { SparkSettings } from "./SparkSettings.ts"

/** Spark did not compute the model. Nothing was committed, and the table is as it was. */
export class SparkFailed extends Schema.TaggedError<SparkFailed>()("SparkFailed", { model: Schema.String, reason: Schema.String }) {
  override get message() {
    return `gold model ${this.model}: ${this.reason}. Its table stays as it was.`
  }
}

/** The script stands beside this module, or beside the bundle that it is part of. */
const script = fileURLToPath(new URL("./spark/gold_batch.py", import.meta.url))

const Answer = Schema.parseJson(Schema.Union(
  Schema.Struct({ error: Schema.String }),
  Schema.Struct({ counts: Schema.Record({ key: Schema.String, value: Schema.String }), repeated: Schema.NullOr(Schema.Array(Schema.String)) })
))

const endsWithin = Duration.seconds(10)
const linesMax = 400
const wordsMax = 1000

const isNoise = (line: string) => /^\s+at |^\s*\.\.\. \d+ more|\b(INFO|WARN|DEBUG)\b|^WARNING: |^Using Spark's|^Setting default log level|^\s*$/.test(line)

/** What the process said that an operator can use. */
const meaningOf = (lines: ReadonlyArray<string>): string => {
  const said = lines.filter((line) => !isNoise(line)).map((line) => line.trim())
  const errors = said.filter((line) => /error|exception|not found|no such|denied|refused|killed/i.test(line))
  return (errors.length > 0 ? errors : said).slice(-3).join("; ").slice(0, wordsMax)
}

const remedies: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /org\.apache\.iceberg\.spark\.SparkCatalog|Cannot find catalog plugin class/,
    "Give Spark Iceberg's runtime: spark.jars.packages org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0 in its spark-defaults.conf"
  ],
  [
    /S3FileIO|software\.amazon\.awssdk/,
    "Give Spark Iceberg's bundle for S3, org.apache.iceberg:iceberg-aws-bundle:1.12.0, and AWS_ACCESS_KEY_ID with its secret"
  ],
  [/JAVA_HOME|java: (command )?not found/i, "Spark needs Java: set JAVA_HOME"]
]

const withRemedy = (reason: string): string => {
  const remedy = remedies.find(([pattern]) => pattern.test(reason))?.[1]
  return remedy === undefined ? reason : `${reason}. ${remedy}`
}

/** Spark reads what it needs from its own environment; of ours it gets no password. */
const environment = (token: SparkSettings["catalogToken"]) => ({
  POSTGRES_URL: "",
  PGPASSWORD: "",
  KAFKA_SASL_PASSWORD: "",
  VOLTLAKE_TOKEN: "",
  CATALOG_READ_TOKEN: "",
  CATALOG_WRITE_TOKEN: "",
  PYTHONDONTWRITEBYTECODE: "1",
  SPARK_CATALOG_TOKEN: Option.match(token, { onNone: () => "", onSome: Redacted.value })
})

const lastLines = (stream: Stream.Stream<Uint8Array, unknown>) =>
  stream.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runFold(Chunk.empty<string>(), (lines, line) => Chunk.takeRight(Chunk.append(lines, line), linesMax)),
    Effect.orElseSucceed(() => Chunk.empty<string>())
  )

/** Runs the job, and answers what it found. Interrupted, it ends Spark with all processes that it started. */
export const run = Effect.fn("SparkProcess.run")(function*(model: string, { catalogToken, submit }: SparkSettings, job: Job) {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const failed = (reason: string) => new SparkFailed({ model, reason: withRemedy(reason) })
  const folder = yield* files.makeTempDirectoryScoped({ prefix: "voltlake-spark-" })
  const [asked, answered] = [path.join(folder, "job.json"), path.join(folder, "answer.json")]
  yield* files.writeFileString(asked, JSON.stringify(job))
  const command = Command.make(submit, "--deploy-mode", "client", script, asked, answered).pipe(Command.env(environment(catalogToken)))
  const child = yield* (yield* CommandExecutor.CommandExecutor).start(command).pipe(
    Effect.mapError(({ message }) =>
      failed(`Spark cannot be started by SPARK_SUBMIT=${submit}: ${message}. Install Spark, or name its spark-submit by SPARK_SUBMIT`))
  )
  // A process that does not end when it is told would be waited for without end.
  yield* Effect.addFinalizer(() =>
    Effect.flatMap(Effect.orElseSucceed(child.isRunning, () => false), (isRunning) =>
      isRunning
        ? Effect.ignore(Effect.timeoutTo(child.kill("SIGTERM"), { duration: endsWithin, onSuccess: () => true, onTimeout: () => false }).pipe(
          Effect.flatMap((hasEnded) => (hasEnded ? Effect.void : child.kill("SIGKILL")))
        ))
        : Effect.void))
  const [out, err, code] = yield* Effect.all([lastLines(child.stdout), lastLines(child.stderr), Effect.either(child.exitCode)], { concurrency: "unbounded" })
  const text = yield* Effect.option(files.readFileString(answered))
  const answer = Either.getOrUndefined(Schema.decodeUnknownEither(Answer)(Option.getOrUndefined(text)))
  if (answer === undefined) {
    const how = Either.isRight(code) ? `ended with ${code.right}` : "was killed"
    const said = meaningOf([...Chunk.toReadonlyArray(out), ...Chunk.toReadonlyArray(err)])
    return yield* failed(`Spark (${submit}) ${how}${said === "" ? "" : `: ${said}`}`)
  }
  return "error" in answer ? yield* failed(`Spark says: ${answer.error}`) : answer
}, Effect.scoped, Effect.catchTags({
  BadArgument: (error) => Effect.die(error),
  SystemError: (error) => Effect.die(error)
}))
