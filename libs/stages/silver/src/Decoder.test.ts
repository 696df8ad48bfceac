import { describe, expect, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import * as StageLake from "@voltlake/testing/StageLake"
import * as Decoder from "./Decoder.ts"

const { bronze, drain, event, inProcess, send } = StageLake

type DurableParts = Layer.Layer.Success<typeof StageLake.durable>

const lake = <A, E>(title: string, body: Effect.Effect<A, E, DurableParts>) => it.live(title, () => Effect.provide(body, StageLake.durable))

const at = (partition: number, offset: number) => [{ topic: StageLake.topic, partition }, BigInt(offset)] as const

const source = Effect.map(LakeTables.load(telemetryRaw), ({ metadata, progress }) => ({ bronze: metadata, ends: Progress.position(progress) }))

/** The offsets of a batch's rows, `partition/offset`. */
const rowsOf = (batch: Decoder.Decoded | undefined) =>
  batch === undefined ? Effect.succeed([]) : Effect.map(
    batch.connection.rows(`SELECT "partition" || '/' || "offset" AS at FROM ${Decoder.decodedTable} ORDER BY "partition", "offset"`),
    (rows) => rows.map((row) => row["at"])
  )

const filled = Effect.gen(function*() {
  for (const partition of [0, 1]) yield* send(partition, ["a", "b", "c", "d"].map((id) => event({ id: `${id}${partition}` })))
  yield* drain(bronze())
})

describe("Decoder", () => {
  lake("answers batch after batch, each once and whole, and then nothing", inProcess(Effect.gen(function*() {
    yield* filled
    const { bronze, ends } = yield* source
    const decoder = yield* Decoder.make(4)
    const first = yield* decoder.next({ bronze, ends, from: Position.empty })
    expect(yield* rowsOf(first)).toEqual(["0/0", "0/1", "1/0", "1/1"])
    const second = yield* decoder.next({ bronze, ends, from: Position.make([at(0, 2), at(1, 2)]) })
    expect(yield* rowsOf(second)).toEqual(["0/2", "0/3", "1/2", "1/3"])
    // The first is over, and its connection was free for the next.
    expect(second!.connection).not.toBe(first!.connection)
    expect(yield* decoder.next({ bronze, ends, from: ends })).toBeUndefined()
  })))

  for (const [title, from, ends, rows] of [
    ["the batch before was not committed", [at(0, 0), at(1, 0)], [at(0, 4), at(1, 4)], ["0/0", "0/1", "1/0", "1/1"]],
    ["others went further", [at(0, 2), at(1, 3)], [at(0, 4), at(1, 4)], ["0/2", "0/3", "1/3"]],
    ["a partition went to another process", [at(0, 2), at(1, 2)], [at(0, 4)], ["0/2", "0/3"]],
    ["bronze was rewound", [at(0, 2), at(1, 2)], [at(0, 3), at(1, 4)], ["0/2", "1/2", "1/3"]]
  ] as const) {
    lake(`decodes anew where ${title}`, inProcess(Effect.gen(function*() {
      yield* filled
      const { bronze, ends: all } = yield* source
      const decoder = yield* Decoder.make(4)
      yield* decoder.next({ bronze, ends: all, from: Position.empty })
      const next = yield* decoder.next({ bronze, from: Position.make(from), ends: Position.make(ends) })
      expect(yield* rowsOf(next)).toEqual(rows)
    })))
  }
})
