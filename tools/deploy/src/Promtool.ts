/** Prometheus's own checker, built by Go once, which takes minutes: of hundreds of packages. */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Cache from "@voltlake/stack/Cache"
import * as Program from "@voltlake/stack/internal/Program"
import { repository } from "@voltlake/testing/VoltlakeProcess"

const source = join(repository, "tools/deploy/promtool")

/** Path of the program. */
export const program = Effect.gen(function*() {
  const hash = createHash("sha256").update(readFileSync(join(source, "go.sum"))).digest("hex").slice(0, 16)
  const folder = yield* Cache.ensure(`promtool-${hash}`, (into) =>
    Effect.gen(function*() {
      const go = yield* Program.find({ program: "go", neededFor: "building promtool" })
      yield* Program.run("promtool", go, ["build", "-o", join(into, "promtool"), "github.com/prometheus/prometheus/cmd/promtool"], {
        cwd: source
      })
    }))
  return join(folder, "promtool")
})
