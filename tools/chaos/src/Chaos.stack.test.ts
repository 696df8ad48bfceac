/** Chaos in short: every process killed once, every server too, under load. The full form is `npm run chaos -- --events 1000000 --kills 30`. */
import { describe, expect, it } from "@effect/vitest"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { stackEnv } from "@voltlake/testing/RealStack"
import { repository } from "@voltlake/testing/VoltlakeProcess"

const fetched = spawnSync(process.execPath, [join(repository, "tools/verify/run.mjs"), "--fetch"], { encoding: "utf8" })
if (fetched.status !== 0) console.log(`chaos is skipped: ${fetched.stderr.trim()}`)

const tool = join(process.env["VOLTLAKE_DIST"] ?? join(repository, "dist"), "chaos.mjs")
const limitMs = 280_000

const chaos = async (...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [tool, ...args], { stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text))
  const timer = setTimeout(() => child.kill("SIGTERM"), limitMs - 20_000)
  const [code] = (await once(child, "close")) as [number | null]
  clearTimeout(timer)
  return { code, output }
}

const isWanted = fetched.status === 0 && stackEnv?.kafka !== undefined && stackEnv.s3 !== undefined && stackEnv.postgresUrl !== undefined

describe.skipIf(!isWanted)("chaos", () => {
  it("loses, doubles and alters nothing while everything is killed in turn", { timeout: limitMs }, async () => {
    // In the run's folder, whose stacks end with the run, however that ends: its stack is `chaos-stack`.
    const dir = join(stackEnv!.dir, "chaos")
    mkdirSync(dir, { mode: 0o755 })
    const { code, output } = await chaos("--events", "100000", "--kills", "8", "--seed", "7", "--every-ms", "3000", "--dir", dir, "--json")
    expect(code, output).toBe(0)
    const result = JSON.parse(output.trimEnd().split("\n").at(-1)!) as { readonly events: number; readonly kills: number; readonly servers: object }
    expect(result).toMatchObject({ ok: true, problems: [], kills: 8, servers: { kafka: 1, s3: 1, postgres: 1 } })
    expect(result.events).toBeGreaterThanOrEqual(100_000)
    expect(readdirSync(stackEnv!.dir).filter((name) => name.startsWith("chaos"))).toEqual([])
  })

  it("refuses what it does not know", async () => {
    expect((await chaos("tickle")).code).toBe(2)
    expect((await chaos("--kills", "many")).output).toContain("--kills must be a whole number above 0")
  })
})
