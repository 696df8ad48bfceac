import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as StageLake from "@voltlake/testing/StageLake"
import * as LogRetention from "./LogRetention.ts"

const { bronze, drain, event, inProcess, record, send, topic } = StageLake

const daysAgo = (days: number, id: string) => record(event({ id }), { timestampMs: Date.now() - days * 86_400_000 })
const firsts = Effect.flatMap(EventLog, (log) => Effect.map(log.partitions(topic), (all) => all.map(({ first }) => first)))

it.live("drops old records that bronze has, and no others", () =>
  Effect.gen(function*() {
    yield* send(0, [daysAgo(9, "a"), daysAgo(8, "b"), daysAgo(1, "c")])
    yield* send(1, [daysAgo(9, "d")])
    yield* inProcess(drain(bronze()))
    yield* send(1, [daysAgo(9, "not read yet")])
    expect(yield* inProcess(LogRetention.run(topic, 7))).toBe(3n)
    expect(yield* firsts).toEqual([2n, 1n])
    expect(yield* inProcess(LogRetention.run(topic, 7))).toBe(0n)
    yield* inProcess(drain(bronze()))
    expect(yield* StageLake.query(({ bronze: rows }) => `SELECT count(*) AS n FROM ${rows}`)).toEqual([{ n: 5n }])
    expect(yield* inProcess(LogRetention.run(topic, 7))).toBe(1n)
  }).pipe(Effect.provide(StageLake.durable)))
