/** Entry of a test's child process: uses the embedded server of the folder given, until it is told to leave. */
import { Effect } from "effect"
import { once } from "node:events"
import { acquire } from "../EmbeddedPostgres.ts"

const [dataDir = ""] = process.argv.slice(2)

Effect.gen(function*() {
  const { port } = yield* acquire(dataDir)
  process.stdout.write(`ready ${port}\n`)
  yield* Effect.promise(() => once(process.stdin, "data"))
}).pipe(
  Effect.scoped,
  Effect.runPromise
).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${String(error)}\n`)
    process.exit(1)
  }
)
