/** `npm run bench -- <pipeline|producer|freshness|embedded|tables|gold> [options]`. Prints figures; docs/BENCHMARKS.md keeps them. */
import { parseArgs } from "node:util"
import * as Embedded from "./Embedded.ts"
import * as Freshness from "./Freshness.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Gold from "./Gold.ts"
import { withServers } from "./Servers.ts"
import * as Tables from "./Tables.ts"
import * as Topic from "./Topic.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    events: { type: "string", default: "1000000" },
    repeats: { type: "string", default: "0.2" },
    processes: { type: "string", default: "one" },
    "vs-spark": { type: "boolean", default: false },
    rate: { type: "string", default: "1000" },
    seconds: { type: "string", default: "30" },
    commits: { type: "string", default: "10000" },
    files: { type: "string", default: "100000" },
    days: { type: "string", default: "20" },
    rows: { type: "string", default: "6000000" },
    part: { type: "string", default: "all" },
    real: { type: "boolean", default: false },
    json: { type: "boolean", default: false }
  }
})
const events = Number(values.events)
const repeats = Number(values.repeats)

const producer = async () => {
  const { bytes, seconds } = await withServers((servers) => Topic.fill(servers, events, repeats))
  return { events, bytesPerEvent: Math.round(bytes / events), eventsPerSecond: Math.round(events / seconds) }
}

const benches: Record<string, () => Promise<object>> = {
  pipeline: () => Pipeline.run({ events, repeats, processes: values.processes === "each" ? "each" : "one", vsSpark: values["vs-spark"] }),
  producer,
  freshness: () => Freshness.run({ rate: Number(values.rate), seconds: Number(values.seconds), isReal: values.real }),
  embedded: () => Embedded.run(events, repeats),
  tables: () => Tables.run({ commits: Number(values.commits), files: Number(values.files) }),
  gold: () => Gold.run({ days: Number(values.days), rows: Number(values.rows), part: values.part })
}

const bench = benches[positionals[0] ?? ""]
if (bench === undefined) {
  console.error(`usage: npm run bench -- ${Object.keys(benches).join("|")} [--json]
  pipeline   from Kafka to S3 and PostgreSQL       [--events N] [--repeats SHARE] [--processes one|each] [--vs-spark]
  producer   into Kafka                            [--events N]
  freshness  sent to visible in gold, steady rate  [--rate N] [--seconds N] [--real]
  embedded   replay of a file, without servers     [--events N] [--repeats SHARE]
  tables     commits, planning, compaction         [--commits N] [--files N]
  gold       gold by batch, and the live merge     [--days N] [--rows N] [--part batch|backfill|live]`)
  process.exit(2)
}
const result = await bench()
if (values.json) console.log(JSON.stringify(result))
else console.table(result)
process.exit(0)
