import { describe, expect, layer as withLayer } from "@effect/vitest"
import { SqlClient } from "@effect/sql/SqlClient"
import { Effect, Layer, Stream } from "effect"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import { EventLog } from "./EventLog.ts"
import { eventLogContract, record } from "./EventLogContract.ts"
import { appendBytesMax, layer, migrations } from "./PostgresEventLog.ts"

const logLayer = Layer.provideMerge(layer, TestPostgres.migrated(migrations))
const plenty = { recordsMax: 1000, bytesMax: 1_000_000 }

eventLogContract("postgres", logLayer)

describe("PostgresEventLog", () => {
  withLayer(logLayer, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.scoped("names topic, partition and offset of a damaged segment, and answers no record of it", () =>
      Effect.gen(function*() {
        const log = yield* EventLog
        const sql = yield* SqlClient
        yield* log.ensureTopic("damaged", 1)
        yield* log.append("damaged", new Map([[0, [record("fine")]]]))
        yield* log.append("damaged", new Map([[0, [record("soon not")]]]))
        yield* sql`update log.segment set payload = set_byte(payload, 40, get_byte(payload, 40) # 1)
          where topic = 'damaged' and base_offset = 1`
        const reader = yield* log.open("damaged", "test")
        const error = yield* Effect.flip(reader.read({ topic: "damaged", partition: 0 }, 0n, plenty))
        expect(error).toMatchObject({ _tag: "EventLogError", retryable: false })
        expect(error.message).toContain("damaged-0 at offset 1 is damaged: its checksum")
        const before = yield* reader.read({ topic: "damaged", partition: 0 }, 0n, { ...plenty, recordsMax: 1 })
        expect(before.records).toHaveLength(1)
      }))

    it.scoped("knows that an error answered applied nothing, and that a broken connection may have", () =>
      Effect.gen(function*() {
        const log = yield* EventLog
        const sql = yield* SqlClient
        yield* log.ensureTopic("outcome", 1)
        yield* sql.unsafe(`
          create function refuse() returns trigger language plpgsql as 'begin raise exception ''no room''; end';
          create trigger refuse before insert on log.segment for each row
            when (new.topic = 'outcome') execute function refuse()`)
        const refused = yield* Effect.flip(log.append("outcome", new Map([[0, [record("a")]]])))
        expect(refused).toMatchObject({ _tag: "EventLogError", outcome: "NotApplied" })
        expect(refused.message).toContain("no room")
        yield* sql.unsafe(`create or replace function refuse() returns trigger language plpgsql
          as 'begin perform pg_terminate_backend(pg_backend_pid()); return new; end'`)
        const broken = yield* Effect.flip(log.append("outcome", new Map([[0, [record("a")]]])))
        expect(broken).toMatchObject({ _tag: "EventLogError", outcome: "Unknown", retryable: true })
        yield* sql.unsafe("drop function refuse() cascade")
        expect(yield* log.append("outcome", new Map([[0, [record("a")]]])))
          .toEqual([{ topic: "outcome", partition: 0, start: 0n, end: 1n }])
      }))

    it.scoped("goes on giving hints after its connection was cut", () =>
      Effect.gen(function*() {
        const log = yield* EventLog
        const sql = yield* SqlClient
        yield* log.ensureTopic("hints", 1)
        const cut = sql`select pg_terminate_backend(pid) from pg_stat_activity
          where application_name like '%listens to voltlake_log'`
        const listening = sql`select pid from pg_stat_activity where application_name like '%listens to voltlake_log'`.pipe(
          Effect.repeat({ until: (rows) => rows.length === 1 }),
          Effect.timeout("10 seconds")
        )
        yield* listening
        expect((yield* cut).length).toBe(1)
        yield* listening
        const three = (yield* log.open("hints", "test")).arrivals.pipe(Stream.take(3), Stream.runDrain)
        const appending = Effect.forever(log.append("hints", new Map([[0, [record("a")]]])))
        yield* Effect.raceFirst(three, appending).pipe(Effect.timeout("10 seconds"))
      }))

    it.scoped("refuses an append that is too large for one statement", () =>
      Effect.gen(function*() {
        const log = yield* EventLog
        yield* log.ensureTopic("large", 1)
        const huge = { ...record(null), value: new Uint8Array(appendBytesMax) }
        expect(yield* Effect.flip(log.append("large", new Map([[0, [huge]]]))))
          .toMatchObject({ _tag: "EventLogError", outcome: "NotApplied", retryable: false })
      }))
  })
})
