/** `voltlake pg`. Prints a password, and only on standard output: that is what it is for. */
import { Console, Effect, Option, Redacted } from "effect"
import { postgresUrlConfig } from "@voltlake/adapters/Adapters"
import * as EmbeddedPostgres from "@voltlake/postgres/EmbeddedPostgres"
import * as Output from "./Output.ts"

export const run = Effect.fn("Pg.run")(function*(options: { readonly dataDir: string; readonly json: boolean }) {
  const given = yield* postgresUrlConfig
  const url = Redacted.value(Option.isSome(given) ? given.value : yield* EmbeddedPostgres.urlOf(options.dataDir))
  yield* options.json ? Output.json({ url }) : Console.log(url)
})
