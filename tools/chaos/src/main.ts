/** `npm run chaos -- [--events N] [--kills N] [--seed N] …` kills everything in turn under load, and verifies. `takeover` is another mode, see TakeOver. */
import { mkdtempSync, realpathSync, rmSync, chmodSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Producer from "./Producer.ts"
import * as Run from "./Run.ts"
import * as TakeOver from "./TakeOver.ts"

// The version of Node is Voltlake's own concern, and is said by what installs it.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    events: { type: "string", default: "100000" },
    kills: { type: "string", default: "8" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    bronze: { type: "string", default: "2" },
    silver: { type: "string", default: "2" },
    partitions: { type: "string", default: "6" },
    "every-ms": { type: "string", default: "3000" },
    proxy: { type: "boolean", default: false },
    dir: { type: "string" },
    keep: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    work: { type: "string" }
  }
})

const usage = "usage: npm run chaos -- [takeover] [--events N] [--kills N] [--seed N] [--bronze N] [--silver N] [--partitions N] [--every-ms N] " +
  "[--proxy] [--dir EMPTY-FOLDER] [--keep] [--json]"

const wholeNumber = (name: "events" | "kills" | "seed" | "bronze" | "silver" | "partitions" | "every-ms"): number => {
  const value = Number(values[name])
  if (Number.isInteger(value) && value > 0) return value
  console.error(`--${name} must be a whole number above 0\n${usage}`)
  process.exit(2)
}

const makeFolder = () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "voltlake-chaos-")))
  // Passable for the account that PostgreSQL runs under where this one is root.
  chmodSync(folder, 0o755)
  return folder
}

/** Ends and removes what runs; told by whoever has started it. */
let cleanUp: () => Promise<void> = () => Promise.resolve()
const onInterrupt = (clean: () => Promise<void>) => {
  cleanUp = clean
}
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)))
}

type Outcome = { readonly ok: boolean; readonly problems: ReadonlyArray<string> }
/** Arguments are looked at before a folder is made. */
type Mode = () => (folder: string, say: (text: string) => void) => Promise<Outcome>

const chaos: Mode = () => {
  const options = {
    events: wholeNumber("events"),
    kills: wholeNumber("kills"),
    seed: wholeNumber("seed"),
    bronze: wholeNumber("bronze"),
    silver: wholeNumber("silver"),
    partitions: wholeNumber("partitions"),
    everyMs: wholeNumber("every-ms"),
    proxy: values.proxy,
    onInterrupt
  }
  return async (folder, say) => {
    const { killed: _, problems, ...figures } = await Run.run({ ...options, folder, say })
    say("")
    for (const [name, value] of Object.entries(figures)) say(`${name.padEnd(20)} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    return { ...figures, problems }
  }
}

const takeOver: Mode = () => {
  const seed = wholeNumber("seed")
  return (folder, say) => TakeOver.run({ folder, seed, say, onInterrupt })
}

const main = async (): Promise<number> => {
  if (positionals[0] === "produce") {
    await Producer.run(JSON.parse(values.work ?? "") as Producer.Work)
    return 0
  }
  const mode = positionals.length === 0 ? chaos : positionals[0] === "takeover" ? takeOver : undefined
  if (mode === undefined) {
    console.error(usage)
    return 2
  }
  const start = mode()
  const folder = values.dir ?? makeFolder()
  const result = await start(folder, (text) => console.log(text)).catch((error: unknown): Outcome => ({
    ok: false,
    problems: [error instanceof Error ? error.stack ?? error.message : String(error)]
  }))
  if (!result.ok) console.log(result.problems.join("\n"))
  if (result.ok && !values.keep) rmSync(folder, { recursive: true, force: true })
  else console.log(`logs are kept in ${join(folder, "logs")}`)
  if (values.json) console.log(JSON.stringify(result))
  return result.ok ? 0 : 1
}

process.exitCode = await main()
