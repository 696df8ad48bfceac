/** The lake's own tables as the stages make them, in rounds between which another engine may do what it likes; and what must hold of them all the time. */
import { Effect } from "effect"
import { deepStrictEqual, strictEqual } from "node:assert"
import { lakeTables, qualifiedName, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as Acknowledge from "@voltlake/maintenance/Acknowledge"
import * as Verify from "@voltlake/reconciliation/Verify"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import type { Digest } from "./Engine.ts"
import * as InteropLake from "./InteropLake.ts"

const linesPerRound = 300

const made = (round: number) => TelemetryLines.make(SeededRandom.make(round), linesPerRound, { copies: 0.2, malformed: 0.1 })

/** New lines, with copies and damaged ones, go through all stages. The stages are as after a restart. */
export const round = (number: number) => Effect.zipRight(StageLake.send(number % 2, made(number).lines), GoldLake.fill)

/** All stages go on, with nothing new in the log. */
export const catchUp = GoldLake.fill

/** Does it for bronze and both tables of silver, in this order. */
export const eachTable = <A, E, R>(of: (table: string) => Effect.Effect<A, E, R>) => Effect.forEach(lakeTables, (table) => of(qualifiedName(table)))

export const digests = eachTable((table) =>
  Effect.map(InteropLake.read(table), ({ count, digest, first }): Digest => ({ count, digest, first })))

export const breaches = Effect.map(StageLake.inProcess(Verify.run(StageLake.topic)), (report) =>
  Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))

/** Takes what another engine did to the three tables as meant: all rows in new files, none gone, which its snapshots do not say. */
export const acknowledge = Effect.gen(function*() {
  const found = yield* breaches
  deepStrictEqual(found, lakeTables.map((table) => `${qualifiedName(table)}: removals by other engines that nobody acknowledged = 0`))
  yield* Effect.forEach(lakeTables, (table) => StageLake.inProcess(Acknowledge.run(table, 0n)), { discard: true })
})

const count = (contract: Parameters<typeof qualifiedName>[0]) => Effect.map(InteropLake.read(qualifiedName(contract)), (read) => read.count)

/** Every line of these rounds is where it belongs, once. */
export const checkComplete = (rounds: number) =>
  Effect.gen(function*() {
    const all = Array.from({ length: rounds }, (_, number) => made(number))
    const sum = (of: (one: TelemetryLines.MadeLines) => number) => all.reduce((total, one) => total + of(one), 0)
    strictEqual(yield* count(telemetryRaw), rounds * linesPerRound)
    strictEqual(yield* count(telemetryClean), sum(({ keys }) => keys))
    strictEqual(yield* count(telemetryRejected), sum(({ malformed }) => malformed))
  })
