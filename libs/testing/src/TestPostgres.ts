/** A throwaway embedded server for a test file: real, empty, and gone afterwards. */
import { Effect, Layer } from "effect"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Migrations from "@voltlake/postgres/Migrations"
import * as Postgres from "@voltlake/postgres/Postgres"

/** A fresh folder under the system's temporary one, which every account may pass through; removed with the scope. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(join(tmpdir(), "voltlake-test-"))).pipe(
    // As root the server runs under another account, which has to reach its cluster.
    Effect.tap((path) => Effect.promise(() => fs.chmod(path, 0o755)))
  ),
  (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
)

/** The clients and URL of a server of one's own. Starting takes about a second: share it over a file with `it.layer`. */
export const layer = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => Postgres.embedded(folder)))

/** As {@link layer}, with migrations applied. */
export const migrated = (migrations: ReadonlyArray<Migrations.Migration>) =>
  Layer.provideMerge(Layer.effectDiscard(Migrations.run(migrations)), layer)
