// kill -9 of the process that runs a task, at each task of each DAG: right before the task's commit, and after it but before its end is noted. Another process
// goes on each time. Nothing is committed twice, what had ended is not run again, and gold is what silver's rows give.
import { NodeContext } from "@effect/platform-node"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { Client } from "pg"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import * as Lake from "@voltlake/commands/Lake"
import * as Action from "@voltlake/iceberg/Action"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Transform from "@voltlake/iceberg/Transform"
import * as Type from "@voltlake/iceberg/Type"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { waitFor } from "@voltlake/testing/Condition"
import { Hold } from "@voltlake/testing/Hold"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { TestLake } from "@voltlake/testing/TestLake"
import type { VoltlakeProcess } from "@voltlake/testing/VoltlakeProcess"

interface Dag {
  readonly name: string
  readonly tasks: ReadonlyArray<{ readonly name: string; readonly after: ReadonlyArray<string> }>
}

interface Run {
  readonly state: string
  readonly tasks: ReadonlyArray<{
    readonly task: string
    readonly facts: Readonly<Record<string, unknown>> | null
    readonly attempts: ReadonlyArray<{ readonly attempt: number; readonly state: string }>
  }>
}

/** Where a task is held right before its commit, and what tells whether that has happened. */
interface Place {
  /** Locks what the commit writes; of a task that has nothing to commit, what it reads. */
  readonly hold: string
  /** Answers another text once it is committed; none where there is nothing to commit. */
  readonly state?: string
  /** What an attempt says that finds it committed. */
  readonly found: Readonly<Record<string, unknown>>
}

const gold = "silver_to_gold_batch"
/** A table of gold's namespace that has files to merge and snapshots to expire: those of models have one file a day. */
const scratch = TableIdentifier.make("gold", "scratch")
const orphan = "0f3b7c1e-8f0e-4d52-9d0f-2f6f3f1f7a11-0.parquet"

const table = (name: string, found: Place["found"]): Place => {
  const row = `iceberg_tables WHERE table_namespace = 'gold' AND table_name = '${name}'`
  return { hold: `SELECT FROM ${row} FOR UPDATE`, state: `SELECT metadata_location AS state FROM ${row}`, found }
}

const stateOfModel = (name: string) => `lake.gold_model_state WHERE name = '${name}'`

/** By the names of tasks; the part in brackets is the model's. */
const places: ReadonlyArray<readonly [task: RegExp, place: (model: string) => Place]> = [
  [/^build_(.*)$/, (model) => table(model, { kind: "found" })],
  [/^compare_(.*)$/, (model) => ({
    hold: `SELECT FROM ${stateOfModel(model)} FOR UPDATE`,
    state: `SELECT compared AS state FROM ${stateOfModel(model)}`,
    found: { units: 0, differing: 0 }
  })],
  // Of a live model too: it is published once, when it begins.
  [/^publish_(.*)$/, (model) => ({
    hold: `SELECT FROM ${stateOfModel(model)} FOR UPDATE`,
    state: `SELECT concat(live, ' ', published_sequence) AS state FROM ${stateOfModel(model)}`,
    found: { days: 0 }
  })],
  [/^(?:compact|expire)$/, () => table(scratch.name, { "gold.scratch": 0 })],
  // A row of the same key that may yet be rolled back.
  [/^orphans$/, () => ({
    hold: `INSERT INTO lake.unreferenced_file SELECT regexp_replace(metadata_location, '/metadata/.*', '/data/${orphan}'), now()
      FROM iceberg_tables WHERE table_namespace = 'gold' AND table_name = 'scratch'`,
    state: `SELECT string_agg(location || since, ',') AS state FROM lake.unreferenced_file WHERE location LIKE '%/${orphan}'`,
    found: { "gold.scratch": 1 }
  })],
  [/^verify$/, () => ({ hold: "LOCK TABLE gold_fleet_minute_metrics IN ACCESS EXCLUSIVE MODE", found: { breaches: 0 } })],
  [/^trim$/, () => ({
    hold: "SELECT FROM log.partition FOR UPDATE",
    state: "SELECT sum(first_offset) AS state FROM log.partition",
    found: { dropped: 0 }
  })]
]

const placeOf = (task: string): Place => {
  for (const [pattern, place] of places) {
    const found = pattern.exec(task)
    if (found !== null) return place(found[1] ?? "")
  }
  throw new Error(`nothing is known here of the task ${task}`)
}

const shuffled = <A>(random: SeededRandom.SeededRandom, items: ReadonlyArray<A>): ReadonlyArray<A> =>
  items.map((item) => [random.next(), item] as const).sort(([a], [b]) => a - b).map(([, item]) => item)

/** Makes the table with two files of one partition, a commit each, and a file that no commit names. */
const makeScratch = Effect.gen(function*() {
  const connection = yield* (yield* QueryEngine).connect
  const { metadata } = yield* (yield* Tables).createIfAbsent(scratch, {
    schema: Type.schema([Type.required(1, "at", Type.timestamptz), Type.required(2, "n", Type.long)]),
    specs: [PartitionSpec.make(0, [{ sourceId: 1, fieldId: 1000, name: "at_day", transform: Transform.day }])],
    sortOrder: SortOrder.ascending(1, [2]),
    properties: { "history.expire.max-snapshot-age-ms": "1" }
  })
  for (const n of [2, 1]) {
    const commitId = yield* Transaction.newCommitId
    const file = yield* DataFileWriter.write({
      connection, metadata, specId: 0, partition: [20_148], sortOrderId: 1, commitId, index: 0,
      query: `SELECT TIMESTAMPTZ '2025-03-01 12:00:00+00' AS at, ${n}::BIGINT AS n`
    })
    yield* Transaction.commit({ commitId, changes: [{ table: scratch, actions: [Action.append([file!])] }] })
  }
  return metadata.location
}).pipe(Effect.scoped)

describe("kill -9 of the process that runs a task", () => {
  const random = SeededRandom.make(20_251_127)
  let lake: TestLake
  let client: Client
  let url: string
  let running: VoltlakeProcess

  const rows = async <A>(statement: string, values: ReadonlyArray<unknown> = []) => (await client.query(statement, [...values])).rows as ReadonlyArray<A>
  const stateOf = async ({ state }: Place) => (state === undefined ? null : (await rows<{ readonly state: string | null }>(state))[0]?.state ?? null)
  const orchestrate = () => void (running = lake.serve("orchestrator"))
  const trigger = async (dag: string) => (await lake.json<{ readonly run: string }>(["dag", "trigger", dag])).run

  const ended = async (run: string) => {
    await waitFor("the run's end", async () =>
      (await rows("SELECT FROM ops.dag_run WHERE id = $1 AND state NOT IN ('queued', 'running')", [run]))[0])
    return lake.json<Run>(["dag", "show", run])
  }

  /** Events of the same minutes each time, and late ones of some days before. */
  const send = async (name: string) => {
    const { lines } = TelemetryLines.make(random, 600, { copies: 0.1, malformed: 0.02 })
    const late = Array.from({ length: 5 }, (_, index) =>
      JSON.stringify({ event_id: `${name}-${index}`, vehicle_id: "late", event_time: `2025-02-2${4 + index}T12:00:00Z`, payload: { speed_mph: 20 } }))
    await lake.replay([await lake.file(`${name}.ndjson`, [...lines, ...late].join("\n"))])
  }

  beforeAll(async () => {
    lake = await TestLake.make({ env: { LOG_RETENTION_DAYS: "1" } })
    // Keeps the server running, whoever is killed.
    lake.launch(["events", "--follow"])
    url = (await waitFor("the server's URL", () => lake.json<{ readonly url: string }>(["pg"]))).url
    await send("first")
    client = new Client(url)
    client.on("error", () => undefined)
    await client.connect()
    for (const { name } of await lake.json<ReadonlyArray<Dag>>(["dag", "list"])) await lake.json(["dag", "pause", name])
    orchestrate()
    expect((await ended(await trigger(gold))).state).toBe("succeeded")
  })
  afterAll(async () => {
    await client.end()
    await lake.close()
  })

  const held: Array<Hold> = []
  const hold = async (statement: string, values: ReadonlyArray<unknown> = []) => {
    const one = await Hold.of(url, statement, values)
    held.push(one)
    return one
  }
  afterEach(() => Promise.all(held.splice(0).map((one) => one.release())))

  /** Kills the process, with what it has under way at the server. */
  const kill = async (holds: Iterable<Hold>) => {
    expect((await running.kill("SIGKILL")).code).toBe("SIGKILL")
    for (const hold of holds) await hold.endWaiting()
    // Its lead would run out by itself after some seconds, which Orchestrators.test waits for.
    await client.query("UPDATE ops.leader SET until = '-infinity'")
  }

  const attemptsNoted = async (run: string) =>
    (await rows<{ readonly noted: string }>("SELECT task || ' ' || attempt AS noted FROM ops.dag_attempt WHERE run = $1 AND state = 'succeeded'", [run]))
      .map(({ noted }) => noted)

  /** Has the DAG run, and kills its process at each of its tasks, and at last before the run's own end is noted. */
  const runWithKills = async ({ name, tasks }: Dag) => {
    const open = new Set(shuffled(random, tasks.map((task) => task.name)))
    const isReady = (task: string) => tasks.find((one) => one.name === task)!.after.every((before) => !open.has(before))
    const holds = new Map<string, Hold>()
    const before = new Map<string, string | null>()
    const killedBefore = new Set<string>()
    const noted = new Set<string>()

    const holdOpen = async () => {
      for (const { name: task } of tasks) {
        const place = placeOf(task)
        // Of two tasks that write the same the later one is held once the earlier one has ended.
        if (!open.has(task) || holds.has(place.hold)) continue
        before.set(task, await stateOf(place))
        holds.set(place.hold, await hold(place.hold))
      }
    }
    const killHere = async (run: string, more: ReadonlyArray<Hold> = []) => {
      for (const task of open) if (isReady(task) && (await holds.get(placeOf(task).hold)?.waiting() ?? []).length > 0) killedBefore.add(task)
      await kill([...holds.values(), ...more])
      for (const one of await attemptsNoted(run)) noted.add(one)
    }

    await holdOpen()
    const run = await trigger(name)
    while (open.size > 0) {
      const task = Array.from(open).find(isReady)!
      const place = placeOf(task)
      const commit = holds.get(place.hold)!
      await commit.reached(`${task} right before its commit`)
      if (!killedBefore.has(task)) {
        await killHere(run)
        orchestrate()
        await commit.reached(`${task} right before its commit, in another process`)
      }
      expect([task, await stateOf(place)]).toEqual([task, before.get(task)])

      const end = await hold("SELECT FROM ops.dag_attempt WHERE run = $1 AND task = $2 AND state = 'running' FOR UPDATE", [run, task])
      await commit.release()
      holds.delete(place.hold)
      await end.reached(`${task} before its end is noted`)
      const committed = await stateOf(place)
      if (place.state !== undefined) expect([task, committed]).not.toEqual([task, before.get(task)])
      await killHere(run, [end])
      await end.release()
      open.delete(task)
      before.set(task, committed)
      await holdOpen()
      if (open.size > 0) orchestrate()
    }

    const end = await hold("SELECT FROM ops.dag_run WHERE id = $1 FOR NO KEY UPDATE", [run])
    orchestrate()
    await end.reached("the run before its end is noted")
    await killHere(run, [end])
    await end.release()
    orchestrate()
    return { run: await ended(run), id: run, committed: before, noted }
  }

  it("knows each DAG", async () => {
    const dags = await lake.json<ReadonlyArray<Dag>>(["dag", "list"])
    expect(dags.map(({ name }) => name)).toEqual([gold, "table_maintenance", "orphan_removal", "reconciliation", "log_retention"])
  })

  it.each([
    [gold, async () => {
      await send("second")
      // So that live models begin anew.
      await rows("UPDATE lake.gold_model_state SET live = NULL, published_sequence = NULL WHERE live IS NOT NULL")
    }],
    ["table_maintenance", async () => {
      const location = await Effect.runPromise(Lake.use(lake.dataDir, () => makeScratch).pipe(Effect.provide(NodeContext.layer)))
      const path = fileURLToPath(`${location}/data/${orphan}`)
      await fs.mkdir(dirname(path), { recursive: true })
      await fs.writeFile(path, "")
      await fs.utimes(path, 0, 0)
    }],
    ["orphan_removal", () => Promise.resolve()],
    ["reconciliation", () => send("third")],
    // As if all had been sent long ago.
    ["log_retention", () => rows("UPDATE log.segment SET timestamp_max = 0")]
  ])("%s: each task is done once, whenever its process dies", async (name, prepare) => {
    await prepare()
    const dag = (await lake.json<ReadonlyArray<Dag>>(["dag", "list"])).find((one) => one.name === name)!
    const { committed, id, noted, run } = await runWithKills(dag)
    expect(run.state).toBe("succeeded")
    expect(run.tasks.map(({ task }) => task).sort()).toEqual(dag.tasks.map((task) => task.name).sort())
    for (const { attempts, facts, task } of run.tasks) {
      const states = attempts.map(({ state }) => state)
      expect([task, states.slice(0, 2), states.at(-1), new Set(states.slice(0, -1))]).toEqual([task, ["lost", "lost"], "succeeded", new Set(["lost"])])
      expect([task, facts]).toEqual([task, expect.objectContaining(placeOf(task).found)])
      // What the attempt committed that was killed then is all that there is.
      const isLast = !dag.tasks.some(({ after, name: later }) => after.includes(task) && placeOf(later).hold === placeOf(task).hold)
      if (isLast) expect([task, await stateOf(placeOf(task))]).toEqual([task, committed.get(task)])
    }
    expect((await attemptsNoted(id)).filter((one) => noted.has(one)).sort()).toEqual([...noted].sort())
    expect(await rows("SELECT kind FROM ops.events WHERE facts ->> 'run' = $1", [id])).toEqual([{ kind: "run_succeeded" }])
  }, 120_000)

  it("leaves gold as silver's rows give it, and nothing for an operator to do", async () => {
    await send("last")
    // So that all is compared once more, not only what is new.
    await client.query("UPDATE lake.gold_model_state SET compared = NULL")
    const run = await ended(await trigger(gold))
    expect(run.state).toBe("succeeded")
    for (const { facts, task } of run.tasks.filter((one) => one.task.startsWith("compare_"))) {
      expect([task, facts]).toEqual([task, expect.objectContaining({ differing: 0, waiting: 0 })])
      expect(facts?.["units"]).toBeGreaterThan(0)
    }
    expect(await lake.sql("SELECT count(*)::INTEGER AS n, sum(events)::INTEGER AS events FROM gold.vehicle_day"))
      .toEqual(await rows("SELECT count(*)::int AS n, sum(events)::int AS events FROM gold_vehicle_day"))
    const [{ state: location } = { state: null }] = await rows<{ readonly state: string | null }>(placeOf("compact").state!)
    const { snapshots } = JSON.parse(await fs.readFile(fileURLToPath(location!), "utf8")) as { readonly snapshots: ReadonlyArray<{ readonly summary: unknown }> }
    expect(snapshots).toEqual([expect.objectContaining({ summary: expect.objectContaining({ operation: "replace", "total-records": "2", "total-data-files": "1" }) })])
    expect(await lake.breaches()).toEqual([])
    expect(await rows("SELECT kind, subject, message FROM ops.events WHERE severity = 'ERROR'")).toEqual([])
  })
})
