/** Who waits for a table's commits hears of them here. Hints only: some may be missed, so waiting stages also poll. */
import { Context, Effect, Layer, Stream } from "effect"
import { commitChannel } from "@voltlake/iceberg/Catalog"
import * as Notifications from "@voltlake/postgres/Notifications"
import { PostgresUrl } from "@voltlake/postgres/PostgresUrl"

export class Wakeups extends Context.Tag("@voltlake/connectors/Wakeups")<Wakeups, {
  /** Emits after commits to the table (`bronze.telemetry_raw`), and whenever one may have been missed. */
  readonly of: (table: string) => Stream.Stream<void>
}>() {}

/** By PostgreSQL's LISTEN, one connection for the process. */
export const layer: Layer.Layer<Wakeups, never, PostgresUrl> = Layer.scoped(
  Wakeups,
  Effect.gen(function*() {
    const url = yield* PostgresUrl
    const heard = yield* Stream.share(Notifications.listen(commitChannel), { capacity: 16, strategy: "sliding" })
    return {
      of: (table) =>
        heard.pipe(
          Stream.filter((hint) => hint._tag === "Connected" || hint.payload.split(",").includes(table)),
          Stream.map(() => undefined),
          Stream.provideService(PostgresUrl, url)
        )
    }
  })
)
