import { describe, expect, layer as withLayer, it } from "@effect/vitest"
import { SqlClient } from "@effect/sql/SqlClient"
import { Chunk, Deferred, Duration, Effect, Fiber, Layer, Redacted, Ref, Schedule, Stream } from "effect"
import { hostname } from "node:os"
import { connect } from "./DedicatedConnection.ts"
import * as Migrations from "./Migrations.ts"
import { listen, notify } from "./Notifications.ts"
import * as Postgres from "./Postgres.ts"
import { PostgresUrl } from "./PostgresUrl.ts"
import * as SessionLock from "./SessionLock.ts"
import { faultOf } from "./SqlFault.ts"
import { temporaryFolder } from "./testing/TemporaryFolder.ts"
import { transaction } from "./Transaction.ts"

const waitLimit = Duration.seconds(20)

/** One server for the file, and migrations that the locks need. */
const server = Layer.provideMerge(
  Layer.effectDiscard(Migrations.run(SessionLock.migrations)),
  Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => Postgres.embedded(folder)))
)

/** Ends the sessions whose application's name matches, as a restarting server would. */
const cut = (name: string) =>
  Effect.flatMap(SqlClient, (sql) =>
    sql<{ readonly pid: number }>`
      select pid, pg_terminate_backend(pid) from pg_stat_activity
      where application_name like ${name} and pid <> pg_backend_pid()`)

const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, Schedule.spaced("20 millis").pipe(Schedule.upTo(waitLimit)))

withLayer(server, { excludeTestServices: true, timeout: 60_000 })("against a real server", (it) => {
  describe("Postgres", () => {
    it.effect("gives 64-bit integers as bigint, bytes as they are, and times in UTC", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const bytes = Uint8Array.from({ length: 70_000 }, (_, at) => at % 256)
        const [row] = yield* sql<{ a: bigint; b: Uint8Array; c: Date; d: string }>`
          select 9007199254740993::int8 as a, ${bytes}::bytea as b, timestamp '2026-03-01 02:03:04.5' as c,
            current_setting('TimeZone') as d`
        expect(row?.a).toBe(9007199254740993n)
        expect(Buffer.compare(Buffer.from(row?.b ?? []), bytes)).toBe(0)
        expect(row?.c.toISOString()).toBe("2026-03-01T02:03:04.500Z")
        expect(row?.d).toBe("UTC")
        const [nulls] = yield* sql`select null::int8 as a, null::bytea as b`
        expect(nulls).toEqual({ a: null, b: null })
      }))

    it.effect("goes on after all its connections were cut, where only busy ones bring errors", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const busy = yield* Effect.forEach([1, 2, 3], () => Effect.fork(Effect.flip(sql`select pg_sleep(60)`)))
        yield* eventually(Effect.filterOrFail(
          sql`select 1 from pg_stat_activity where query like 'select pg_sleep%'`,
          (rows) => rows.length === 3
        ))
        yield* cut("voltlake")
        for (const fiber of busy) {
          const fault = faultOf(yield* Fiber.join(fiber))
          expect(fault).toMatchObject({ outcome: "Unknown", retryable: true, code: "57P01" })
        }
        for (let at = 0; at < 20; at++) expect(yield* sql`select 1 as one`).toEqual([{ one: 1 }])
      }))

    it.effect("holds no more connections than its limit", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const results = yield* Effect.forEach(
          Array.from({ length: 40 }, (_, at) => at),
          (at) => sql<{ at: number }>`select ${at}::int as at, pg_sleep(0.005)`,
          { concurrency: "unbounded" }
        )
        expect(results.map(([row]) => row?.at)).toEqual(Array.from({ length: 40 }, (_, at) => at))
        const held = yield* sql`select pid from pg_stat_activity where application_name = 'voltlake'`
        expect(held.length).toBeLessThanOrEqual(Postgres.connectionsMax)
      }))
  })

  describe("Transaction", () => {
    it.effect("commits all or nothing, and gives the error as it was", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        yield* sql`create table t1 (a int primary key)`
        yield* transaction(Effect.zipRight(sql`insert into t1 values (1)`, transaction(sql`insert into t1 values (2)`)))
        expect(yield* Effect.flip(transaction(Effect.zipRight(sql`insert into t1 values (3)`, Effect.fail("no")))))
          .toBe("no")
        const twice = Effect.zipRight(sql`insert into t1 values (4)`, sql`insert into t1 values (1)`)
        const repeated = yield* Effect.flip(transaction(twice))
        expect(repeated).toMatchObject({ _tag: "SqlError", cause: { code: "23505" } })
        expect(yield* sql`select a from t1 order by a`).toEqual([{ a: 1 }, { a: 2 }])
      }))

    it.effect("does not take the end of a broken transaction for a commit", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const error = yield* Effect.flip(transaction(Effect.ignore(sql`select 1 / 0`)))
        expect(error).toMatchObject({ _tag: "SqlError", message: "the transaction was rolled back at its commit" })
      }))

    it.effect("says what is known when the connection breaks before the commit, and during it", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        yield* sql.unsafe(`
          create table t2 (a int);
          create function end_session() returns trigger language plpgsql
            as 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
          create constraint trigger at_commit after insert on t2 deferrable initially deferred
            for each row execute function end_session()`)
        const before = yield* Effect.flip(transaction(sql`select pg_terminate_backend(pg_backend_pid())`))
        expect(before).toMatchObject({ _tag: "SqlError" })
        const during = yield* Effect.flip(transaction(sql`insert into t2 values (1)`))
        expect(during).toMatchObject({ _tag: "CommitUnknown" })
        yield* sql`alter table t2 disable trigger at_commit`
        yield* transaction(sql`insert into t2 values (2)`)
        expect(yield* sql`select a from t2`).toEqual([{ a: 2 }])
      }))
  })

  describe("Migrations", () => {
    const base = SessionLock.migrations

    it.effect("are applied once each by processes that start together, in the order given", () =>
      Effect.gen(function*() {
        const applied = yield* Ref.make<ReadonlyArray<string>>([])
        const own = (name: string): Migrations.Migration => ({
          name,
          apply: Effect.flatMap(SqlClient, (sql) =>
            Effect.zipRight(
              sql.unsafe(`create table ${name.replace("/", "_")} (a int)`),
              Ref.update(applied, (all) => [...all, name])
            ))
        })
        const given = [...base, own("two/second"), own("one/first")]
        const results = yield* Effect.all(
          Array.from({ length: 4 }, () => Migrations.run(given)),
          { concurrency: "unbounded" }
        )
        expect(results.flat()).toEqual(["two/second", "one/first"])
        expect(yield* Ref.get(applied)).toEqual(["two/second", "one/first"])
        // A library's next migration runs although others came after its first.
        const later = [...base, own("two/second"), own("two/third"), own("one/first")]
        expect(yield* Migrations.run(later)).toEqual(["two/third"])
        const error = yield* Effect.flip(Migrations.run(base))
        expect(error).toMatchObject({ _tag: "UnknownMigrations", names: ["one/first", "two/second", "two/third"] })
        const sql = yield* SqlClient
        yield* sql`delete from lake.migration where name similar to '(one|two)/%'`
      }))

    it.effect("leave nothing of a set that fails", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const good = Migrations.fromSql("x/good", "create table good (a int)")
        const given = [...base, good, Migrations.fromSql("x/bad", "create tabel bad")]
        const error = yield* Effect.flip(Migrations.run(given))
        expect(error).toMatchObject({ _tag: "MigrationFailed", name: "x/bad" })
        expect(error.message).toContain("syntax error")
        expect(yield* sql`select to_regclass('good') as found`).toEqual([{ found: null }])
        expect(yield* Migrations.run(base)).toEqual([])
      }))
  })

  describe("SessionLock", () => {
    it.effect("tells a second comer who holds it, and lets them in when it is released", () =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* SessionLock.acquire("start", "running the lake")
          yield* Effect.scoped(SessionLock.acquire("another", "other work"))
          const held = yield* Effect.flip(Effect.scoped(SessionLock.acquire("start", "again")))
          expect(held).toMatchObject({
            _tag: "LockHeld", name: "start", pid: process.pid, host: hostname(), purpose: "running the lake"
          })
        }))
        yield* Effect.scoped(SessionLock.acquire("start", "after"))
        const sql = yield* SqlClient
        expect(yield* sql`select name from lake.lock_holder`).toEqual([])
      }))

    it.effect("does not name a dead holder for one that has not said yet who it is", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        yield* sql`insert into lake.lock_holder (name, backend_pid, pid, host, purpose)
          values ('raw', 0, 1, 'elsewhere', 'old')`
        yield* Effect.scoped(Effect.gen(function*() {
          const session = yield* connect(yield* PostgresUrl, "raw holder")
          yield* session.query("select pg_advisory_lock(1870, hashtext('raw'))")
          const held = yield* Effect.flip(Effect.scoped(SessionLock.acquire("raw", "second")))
          expect(held).toMatchObject({ _tag: "LockHeld", pid: 0, host: "unknown" })
        }))
        yield* sql`delete from lake.lock_holder where name = 'raw'`
      }))

    it.effect("lets the holder know that the lock is lost, and the next one have it", () =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const first = yield* SessionLock.acquire("lease", "first")
          expect(yield* Effect.timeoutOption(first.lost, "50 millis")).toMatchObject({ _tag: "None" })
          yield* cut("voltlake lock lease")
          yield* Effect.timeout(first.lost, waitLimit)
          const second = yield* SessionLock.acquire("lease", "second")
          const held = yield* Effect.flip(Effect.scoped(SessionLock.acquire("lease", "third")))
          expect(held.message).toContain("second")
          expect(yield* Effect.timeoutOption(second.lost, "50 millis")).toMatchObject({ _tag: "None" })
        }))
      }))
  })

  describe("Notifications", () => {
    it.effect("are heard, and a reconnection is told, since some may have been missed", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const ready = yield* Deferred.make<void>()
        const heard = yield* Effect.fork(
          listen("news").pipe(
            Stream.tap((one) => (one._tag === "Connected" ? Deferred.succeed(ready, undefined) : Effect.void)),
            Stream.take(4),
            Stream.runCollect
          )
        )
        yield* Deferred.await(ready)
        yield* notify("news", "a")
        const [old] = yield* cut("voltlake listens to news")
        yield* eventually(Effect.filterOrFail(
          sql`select 1 from pg_stat_activity where application_name = 'voltlake listens to news'
            and query like 'listen%' and state = 'idle' and pid <> ${old?.pid ?? 0}`,
          (rows) => rows.length === 1
        ))
        yield* notify("news", "b")
        const all = Chunk.toReadonlyArray(yield* Effect.timeout(Fiber.join(heard), waitLimit))
        const told = all.map((one) => (one._tag === "Connected" ? "connected" : one.payload))
        expect(told).toEqual(["connected", "a", "connected", "b"])
      }))
  })

  describe("fromUrl", () => {
    it.effect("gives clients for a server of one's own", () =>
      Effect.gen(function*() {
        const url = yield* PostgresUrl
        const name = yield* Effect.provide(
          Effect.flatMap(SqlClient, (sql) => sql`select current_setting('application_name') as name`),
          Postgres.fromUrl(url, "bench")
        )
        expect(name).toEqual([{ name: "bench" }])
        const wrong = Redacted.make(Redacted.value(url).replace(/:[^:@]+@/, ":not-the-secret@"))
        const error = yield* Effect.flip(Effect.provide(SqlClient, Postgres.fromUrl(wrong)))
        expect(error).toMatchObject({ _tag: "PostgresUnavailable", retryable: false })
        expect(JSON.stringify(error)).not.toContain("not-the-secret")
      }))
  })
})

describe("fromUrl", () => {
  it.live("says that nothing answers, and that waiting may help", () =>
    Effect.gen(function*() {
      // Port 1 is nobody's.
      const url = Redacted.make("postgres://u:secret@127.0.0.1:1/d")
      const error = yield* Effect.flip(Effect.provide(SqlClient, Postgres.fromUrl(url)))
      expect(error).toMatchObject({ _tag: "PostgresUnavailable", retryable: true })
      expect(error.message).toContain("ECONNREFUSED")
      expect(error.message).not.toContain("secret")
    }))
})
