/**
 * The Compose files as Docker Compose understands them: read by compose-go, the library that it is made of, in a small program that Go builds once.
 * That checks them against the Compose specification, and fills in variables.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Cache from "@voltlake/stack/Cache"
import * as Program from "@voltlake/stack/internal/Program"
import { repository } from "@voltlake/testing/VoltlakeProcess"

export interface Service {
  readonly image?: string
  readonly build?: { readonly context: string; readonly dockerfile?: string }
  readonly command?: ReadonlyArray<string> | null
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: ReadonlyArray<{ readonly host_ip?: string; readonly published?: string; readonly target: number }>
  readonly volumes?: ReadonlyArray<{ readonly type: string; readonly source: string; readonly target: string; readonly read_only?: boolean }>
  readonly user?: string
  readonly read_only?: boolean
  readonly privileged?: boolean
  readonly cap_drop?: ReadonlyArray<string>
  readonly cap_add?: ReadonlyArray<string>
  readonly security_opt?: ReadonlyArray<string>
  readonly restart?: string
  readonly profiles?: ReadonlyArray<string>
  readonly container_name?: string
  readonly stop_grace_period?: string
  readonly healthcheck?: { readonly test?: ReadonlyArray<string>; readonly disable?: boolean }
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly deploy?: { readonly replicas?: number; readonly resources?: { readonly limits?: { readonly memory?: string } } }
}

export interface Project {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const source = join(repository, "tools/deploy/compose")

/** Path of the program. */
export const program = Effect.gen(function*() {
  const hash = createHash("sha256")
  for (const file of ["main.go", "go.sum"]) hash.update(readFileSync(join(source, file)))
  const folder = yield* Cache.ensure(`compose-${hash.digest("hex").slice(0, 16)}`, (into) =>
    Effect.gen(function*() {
      const go = yield* Program.find({ program: "go", neededFor: "building the reader of Compose files" })
      yield* Program.run("the reader of Compose files", go, ["build", "-trimpath", "-o", join(into, "compose"), "."], { cwd: source })
    }))
  return join(folder, "compose")
})

/** The project that the files make, overrides last, with services of all profiles. Fails with what is wrong. */
export const load = (files: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.gen(function*() {
    const text = yield* Program.run(files.join(" and "), yield* program, files, { cwd: repository, env })
    return JSON.parse(text) as Project
  })
