/** `npm run bench -- <pipeline|freshness> [options]`. Prints figures; docs/BENCHMARKS.md keeps them. */
import { parseArgs } from "node:util"
import * as Freshness from "./Freshness.ts"
import * as Pipeline from "./Pipeline.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    events: { type: "string", default: "1000000" },
    repeats: { type: "string", default: "0" },
    rate: { type: "string", default: "1000" },
    seconds: { type: "string", default: "30" },
    json: { type: "boolean", default: false }
  }
})

const benches: Record<string, () => Promise<object>> = {
  pipeline: () => Pipeline.run(Number(values.events), Number(values.repeats)),
  freshness: () => Freshness.run(Number(values.rate), Number(values.seconds))
}

const bench = benches[positionals[0] ?? ""]
if (bench === undefined) {
  console.error(`usage: npm run bench -- ${Object.keys(benches).join("|")} [--events N] [--repeats SHARE] [--rate N] [--seconds N] [--json]`)
  process.exit(2)
}
const result = await bench()
if (values.json) console.log(JSON.stringify(result))
else console.table(result)
