import { SqlClient } from "@effect/sql"
import { describe, expect, it, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Either, Fiber, Schedule } from "effect"
import * as Progress from "@voltlake/domain/Progress"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import { checkAgainstSilver } from "./Gold.ts"
import * as GoldProgress from "./GoldProgress.ts"

const { drain, event, fillSilver, gold, inProcess, query, send, stepOnce } = StageLake

interface Minute {
  readonly vehicle: string
  readonly minute: bigint
  readonly events: bigint
  readonly speeds: bigint
  /** Exact, with six digits behind the point. */
  readonly sum: string
  readonly average: number | null
  readonly max: number | null
  readonly battery: number | null
}

const text = (value: unknown) => (value === null ? null : String(value))

/** A decimal text as an integer of 10^-6; `1e+300` has that form in DuckDB. */
const micros = (decimal: string): bigint => {
  const [mantissa = "", exponent = "0"] = decimal.toLowerCase().split("e")
  const [whole = "", part = ""] = mantissa.split(".")
  const places = 6 + Number(exponent) - part.length
  return places >= 0 ? BigInt(whole + part) * 10n ** BigInt(places) : BigInt(whole + part) / 10n ** BigInt(-places)
}

const decimal = (value: bigint) => `${value / 1_000_000n}.${String(value % 1_000_000n).padStart(6, "0")}`

const averageOf = (sum: bigint, count: bigint) => {
  if (count === 0n) return null
  return Number(decimal(sum)) / Number(count)
}

/** Recomputed from all of silver at once, speeds as text and summed here. */
const recomputed = (perVehicle: boolean) =>
  Effect.map(
    query(({ clean }) => `
      SELECT ${perVehicle ? "vehicle_id" : "'fleet'"} AS vehicle, epoch_us(time_bucket(INTERVAL 1 MINUTE, event_ts, TIMESTAMPTZ '0001-01-01 00:00:00+00')) AS minute,
        count(*) AS events, count(*) FILTER (speed_mph < 1e15) AS speeds, max(speed_mph) AS max, min(battery_percent) AS battery,
        coalesce(string_agg(CASE WHEN speed_mph < 1e15 THEN speed_mph::DECIMAL(38, 6)::VARCHAR END, ' '), '') AS all_speeds
      FROM ${clean} GROUP BY 1, 2 ORDER BY 1, 2`),
    (rows) =>
      rows.map((row): Minute => {
        const speeds = String(row["all_speeds"]).split(" ").filter((one) => one !== "")
        const sum = speeds.reduce((total, one) => total + micros(one), 0n)
        return {
          vehicle: String(row["vehicle"]),
          minute: row["minute"] as bigint,
          events: row["events"] as bigint,
          speeds: row["speeds"] as bigint,
          sum: decimal(sum),
          average: averageOf(sum, row["speeds"] as bigint),
          max: row["max"] as number | null,
          battery: row["battery"] as number | null
        }
      })
  )

const merged = (perVehicle: boolean) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const suffix = perVehicle ? "" : "_fleet"
    const rows = yield* sql.unsafe<Record<string, unknown>>(`
      SELECT ${perVehicle ? "vehicle_id" : "'fleet'"} AS vehicle, (extract(epoch FROM minute_ts) * 1000000)::bigint AS minute,
        ${perVehicle ? "event_count" : "total_events"} AS events, speed_count AS speeds, round(speed_sum, 6)::text AS sum,
        avg_speed_mph${suffix} AS average, ${perVehicle ? "max_speed_mph" : "NULL"} AS max, min_battery_percent${suffix} AS battery
      FROM ${perVehicle ? "gold_vehicle_minute_metrics" : "gold_fleet_minute_metrics"} ORDER BY 1, 2`)
    return rows.map((row): Minute => ({
      vehicle: String(row["vehicle"]),
      minute: row["minute"] as bigint,
      events: row["events"] as bigint,
      speeds: row["speeds"] as bigint,
      sum: String(row["sum"]),
      average: row["average"] as number | null,
      max: row["max"] as number | null,
      battery: row["battery"] as number | null
    }))
  })

/** PostgreSQL divides sums beyond 10⁹ to 16 digits and more; below that averages agree to the last digit. */
const isClose = (a: number | null, b: number | null, sum: string) =>
  a === b || (a !== null && b !== null && sum.split(".")[0]!.length > 9 && Math.abs(a - b) <= Math.abs(b) * 1e-15)

const expectRecomputed = Effect.gen(function*() {
  for (const perVehicle of [true, false]) {
    const expected = yield* recomputed(perVehicle)
    const found = yield* merged(perVehicle)
    expect(found.map(({ average: _, ...rest }) => rest)).toEqual(expected.map(({ average: _, max, ...rest }) => ({ ...rest, max: perVehicle ? max : null })))
    found.forEach(({ average, sum }, at) => expect(isClose(average, expected[at]!.average, sum), `${average} is ${expected[at]!.average}`).toBe(true))
  }
})

const oddSpeeds = ["null", "0", "1e300", "1e-7", "0.0000005", "123456789.123456", "33.333333333333336", "999999999999999.9", "1e15", "0.1", "0.2"]
const oddTimes = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "2025-03-01T07:59:59.999999Z", "2025-03-01T08:00:00Z"]

const someEvents = (random: SeededRandom.SeededRandom, count: number, prefix = "e") =>
  Array.from({ length: count }, (_, at) => {
    const odd = random.next() < 0.25
    return event({
      id: `${prefix}${at}`,
      vehicle: `v${random.below(4)}`,
      time: odd ? oddTimes[random.below(oddTimes.length)]! : new Date(Date.UTC(2025, 2, 1, 8) + random.below(240_000)).toISOString(),
      speed: random.next() < 0.3 ? oddSpeeds[random.below(oddSpeeds.length)]! : Math.round(random.next() * 9e7) / 1e6,
      battery: random.next() < 0.2 ? null : random.next() * 100,
      odometer: random.next() < 0.5 ? null : random.next() * 1e5
    })
  })

const progress = Effect.map(Effect.flatMap(SqlClient.SqlClient, GoldProgress.read), (read) => read.progress)

const everything = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return {
    vehicle: yield* merged(true),
    fleet: yield* merged(false),
    latest: yield* sql`SELECT * FROM vehicle_signal_latest ORDER BY vehicle_id, signal`,
    progress: Progress.encode(yield* progress)
  }
})

type LakeParts = Effect.Effect.Context<typeof everything> | Effect.Effect.Context<typeof GoldLake.fill>

layer(GoldLake.postgres, { excludeTestServices: true })("Gold", (it) => {
  const lake = <A, E>(title: string, body: Effect.Effect<A, E, LakeParts>) => it.effect(title, () => GoldLake.fresh(body))

  for (const seed of [1, 2]) {
    lake(`merged by small steps equals a recomputation over all of silver, sums and averages to the last digit (${seed})`, Effect.gen(function*() {
      const events = someEvents(SeededRandom.make(seed), 400)
      yield* send(0, events.filter((_, at) => at % 3 !== 0))
      yield* send(1, events.filter((_, at) => at % 3 === 0))
      yield* fillSilver
      yield* inProcess(drain(gold({ batchRowsMax: 23 })))
      yield* expectRecomputed
      // Late events, into minutes that are there.
      yield* send(0, someEvents(SeededRandom.make(seed + 100), 100, "late"))
      yield* GoldLake.fill
      yield* expectRecomputed
      const [row] = yield* query(({ clean }) => `SELECT count(*) AS rows FROM ${clean}`)
      expect(row).toEqual({ rows: 500n })
    }))
  }

  lake("is the same whatever the size of its steps", Effect.gen(function*() {
    yield* send(0, someEvents(SeededRandom.make(7), 150))
    yield* fillSilver
    yield* inProcess(drain(gold({ batchRowsMax: 7 })))
    const small = yield* everything
    yield* GoldLake.reset
    yield* inProcess(drain(gold()))
    expect(yield* everything).toEqual(small)
  }))

  lake("keeps per vehicle and signal the value of the greatest (event_ts, topic, partition, offset), in whatever order events come", Effect.gen(
    function*() {
      const early = "2025-03-01T08:00:00Z"
      const late = "2025-03-01T08:00:01Z"
      yield* send(1, [event({ id: "1", time: late, speed: 11, battery: null, odometer: 1 }), event({ id: "2", time: late, speed: null, battery: 12 })])
      yield* GoldLake.fill
      yield* send(0, [
        event({ id: "3", time: late, speed: 20, battery: 20, odometer: null }),
        event({ id: "4", time: early, speed: 30, battery: 30, odometer: 30 }),
        event({ id: "5", vehicle: "v2", time: early, speed: 1, battery: null, odometer: null }),
        event({ id: "6", vehicle: "v2", time: early, speed: 2, battery: null, odometer: null })
      ])
      yield* GoldLake.fill
      const sql = yield* SqlClient.SqlClient
      const latest = yield* sql<Record<string, unknown>>`SELECT vehicle_id, signal, value, partition, "offset" FROM vehicle_latest ORDER BY 1, 2`
      expect(latest.map((row) => Object.values(row).map(text).join(" "))).toEqual([
        "v1 battery_percent 12 1 1",
        "v1 odometer_miles 1000 1 1",
        "v1 speed_mph 11 1 0",
        "v2 speed_mph 2 0 3"
      ])
    }
  ))

  lake("lets one of two that read the same range merge it, and the other give up", Effect.gen(function*() {
    yield* send(0, someEvents(SeededRandom.make(3), 50))
    yield* fillSilver
    const store = yield* ObjectStore
    const hasRead = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const slowStore = ObjectStore.of({
      ...store,
      localFile: (key) =>
        Effect.zipRight(Effect.zipRight(Deferred.succeed(hasRead, undefined), Deferred.await(mayGoOn)), store.localFile(key))
    })
    const slow = yield* Effect.fork(Effect.flip(stepOnce(gold()).pipe(Effect.provideService(ObjectStore, slowStore))))
    yield* Deferred.await(hasRead)
    expect(yield* stepOnce(gold())).toBe("advanced")
    const before = yield* everything
    yield* Deferred.succeed(mayGoOn, undefined)
    expect(yield* Fiber.join(slow)).toMatchObject({ _tag: "OffsetOverlap" })
    expect(yield* everything).toEqual(before)
    yield* expectRecomputed
  }))

  lake("reads a batch again where a row was mended meanwhile", Effect.gen(function*() {
    yield* send(0, someEvents(SeededRandom.make(3), 50))
    yield* GoldLake.fill
    const sql = yield* SqlClient.SqlClient
    // A row that somebody made wrong, and that the comparison mends while a batch is on its way.
    yield* sql`UPDATE gold_fleet_minute_metrics SET total_events = total_events + 7`
    yield* send(0, someEvents(SeededRandom.make(4), 50, "f"))
    yield* fillSilver
    const isHeld = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const mending = yield* Effect.fork(sql.withTransaction(Effect.gen(function*() {
      const before = yield* GoldProgress.lock(sql)
      yield* Deferred.succeed(isHeld, undefined)
      yield* Deferred.await(mayGoOn)
      yield* sql`UPDATE gold_fleet_minute_metrics SET total_events = total_events - 7`
      yield* GoldProgress.write(sql, { ...before, revision: before.revision + 1n })
    })))
    yield* Deferred.await(isHeld)
    const step = yield* Effect.fork(Effect.flip(stepOnce(gold())))
    // It has computed its rows once it waits for the lock.
    const waiting = sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
    yield* Effect.repeat(waiting, { until: ([row]) => row!.n > 0, schedule: Schedule.spaced(Duration.millis(20)) }).pipe(Effect.timeout(Duration.seconds(20)))
    yield* Deferred.succeed(mayGoOn, undefined)
    yield* Fiber.join(mending)
    expect(yield* Fiber.join(step)).toMatchObject({ _tag: "GoldMoved" })
    yield* inProcess(drain(gold()))
    yield* expectRecomputed
  }))

  for (
    const [how, statement] of [
      ["fails", "raise exception 'no room'"],
      ["is killed with its connection", "perform pg_terminate_backend(pg_backend_pid())"]
    ] as const
  ) {
    lake(`leaves nothing of a transaction that ${how} after its first statements`, Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* send(0, someEvents(SeededRandom.make(4), 30))
      yield* GoldLake.fill
      const before = yield* everything
      yield* send(0, someEvents(SeededRandom.make(5), 30, "next"))
      yield* fillSilver
      yield* sql.unsafe(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'begin ${statement.replaceAll("'", "''")}; return new; end';
        CREATE TRIGGER refuse BEFORE UPDATE ON lake.gold_progress FOR EACH ROW EXECUTE FUNCTION refuse()`)
      const failed = yield* Effect.exit(stepOnce(gold()))
      yield* sql.unsafe("DROP FUNCTION refuse() CASCADE")
      expect(failed._tag).toBe("Failure")
      expect(yield* everything).toEqual(before)
      yield* inProcess(drain(gold()))
      yield* expectRecomputed
    }))
  }

  lake("stops where it has read further than silver ever was", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* GoldLake.fill
    const before = yield* progress
    const sql = yield* SqlClient.SqlClient
    const ahead = (key: string, more: bigint) => {
      const [known] = Array.from(before.values())
      const { position, rows } = known!
      return GoldProgress.write(sql, {
        progress: new Map([[key, new Progress.PartitionProgress({ ...known!, position: position + more, rows: rows + more })]]),
        silverEpoch: 0,
        silverRemoval: "",
        minutesFrom: undefined,
        revision: 0n
      })
    }
    for (const [key, more] of [["telemetry_raw-0", 1n], ["another-0", 0n]] as const) {
      yield* ahead(key, more)
      const stopped = yield* Effect.flip(stepOnce(gold()))
      expect(stopped).toMatchObject({ _tag: "StageStopped", stage: "gold" })
      expect(stopped.message).toContain("gold has read further than silver ever was")
    }
    yield* ahead("telemetry_raw-0", 0n)
    expect(yield* stepOnce(gold())).toBe("idle")
  }))

  lake("passes over offsets that silver rejected or dropped as copies", Effect.gen(function*() {
    yield* send(0, ["reject", event({ id: "a" }), event({ id: "a" }), "reject"])
    yield* GoldLake.fill
    expect(Array.from((yield* progress).values())).toMatchObject([{ position: 4n, rows: 1n, skipped: 3n }])
    yield* send(0, ["only rejects"])
    yield* GoldLake.fill
    expect(Array.from((yield* progress).values())).toMatchObject([{ position: 5n, rows: 1n, skipped: 4n }])
    yield* expectRecomputed
  }))
})

describe("checkAgainstSilver", () => {
  const at = (position: bigint, rows: bigint) =>
    new Map([["t-0", new Progress.PartitionProgress({
      start: 0n,
      position,
      rows,
      skipped: position - rows,
      lost: 0n,
      rejected: 0n,
      duplicates: 0n
    })]])
  const none = new Map<string, bigint>()
  const two = new Map([["t-0", 2n]])
  it.each([
    ["nothing read yet holds", Progress.empty, at(10n, 7n), none, true],
    ["caught up with as many events as rows", at(10n, 7n), at(10n, 7n), none, true],
    ["caught up with an event too few", at(10n, 6n), at(10n, 7n), none, false],
    ["caught up with an event too many", at(10n, 8n), at(10n, 7n), none, false],
    ["behind with fewer holds", at(5n, 3n), at(10n, 7n), none, true],
    ["behind with more", at(8n, 8n), at(10n, 7n), none, false],
    ["caught up with as many as were left", at(10n, 5n), at(10n, 7n), two, true],
    ["caught up with more than were left", at(10n, 6n), at(10n, 7n), two, false],
    ["caught up with fewer than were left", at(10n, 4n), at(10n, 7n), two, false],
    ["behind with more than were left", at(8n, 6n), at(10n, 7n), two, false],
    ["fewer, where nobody knows how many were removed, holds", at(10n, 4n), at(10n, 7n), undefined, true],
    ["too many, where nobody knows", at(10n, 8n), at(10n, 7n), undefined, false]
  ])("%s", (_, own, progress, removed, holds) => {
    expect(Either.isRight(checkAgainstSilver(own, { progress, removed }))).toBe(holds)
  })
})
