/** A throwaway embedded server for a test file: real, empty, and gone afterwards. */
import { Effect, Layer } from "effect"
import * as Migrations from "@voltlake/postgres/Migrations"
import * as Postgres from "@voltlake/postgres/Postgres"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"

/**
 * The clients and URL of a server of one's own. Starting takes about a second: share it over a file with `it.layer`.
 */
export const layer = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => Postgres.embedded(folder)))

/** As {@link layer}, with migrations applied. */
export const migrated = (migrations: ReadonlyArray<Migrations.Migration>) =>
  Layer.provideMerge(Layer.effectDiscard(Migrations.run(migrations)), layer)
