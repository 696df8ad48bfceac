import { describe, expect, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, Scope, TestClock, TestContext } from "effect"
import fc from "fast-check"
import { record } from "./EventLogContract.ts"
import { FakeKafka, type Fate } from "./FakeKafka.ts"
import { codecs } from "./KafkaCodecs.ts"
import * as KafkaProducer from "./KafkaProducer.ts"

const topic = "t"
const make = (kafka: FakeKafka) => KafkaProducer.make(kafka.cluster, { topic, codec: codecs.none })

/** Lets the clock go on, also for promises, until the effect has ended. */
const inTime = <A, E>(effect: Effect.Effect<A, E>, step: Duration.DurationInput = "100 millis") =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(Effect.either(effect))
    while ((yield* Fiber.poll(fiber))._tag === "None") {
      yield* TestClock.adjust(step)
      yield* Effect.promise(() => new Promise(setImmediate))
    }
    return yield* Effect.flatten(Fiber.join(fiber))
  })

const scripted = (fates: ReadonlyArray<Fate>, last: Fate = "ok") => {
  let at = 0
  return () => fates[at++] ?? last
}

const one = (value: string) => new Map([[0, [record(value)]]])
const doubt = { outcome: "Unknown", retryable: true }

describe("KafkaProducer", () => {
  it.scoped.each<readonly [string, ReadonlyArray<Fate>]>([
    ["the connection breaks before it is written", ["lostBefore"]],
    ["the connection breaks after it was written", ["lostAfter"]],
    ["the connection breaks again and again", ["lostBefore", "lostAfter", "lostBefore", "lostAfter"]],
    ["the leader has moved", [6, 3, 5]],
    ["replicas are missing", [19, 19]],
    ["replicas are late", [{ written: 7 }, { written: 20 }]],
    ["the broker has lost sight of the producer", [59, 45, 47]],
    ["an error that has no name comes after it was written", [{ written: 999 }]]
  ])("has a record in the log once where %s", ([, fates]) =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(1, scripted(fates))
      const producer = yield* make(kafka)
      expect(yield* inTime(producer.append(one("a")))).toEqual([{ topic, partition: 0, start: 0n, end: 1n }])
      expect(yield* inTime(producer.append(one("b")))).toEqual([{ topic, partition: 0, start: 1n, end: 2n }])
      expect(kafka.logs[0]).toEqual(["a", "b"])
    }))

  it.scoped.each<readonly [string, ReadonlyArray<Fate>, object, number]>([
    ["topic is forbidden", [29], { outcome: "NotApplied", retryable: false, reason: "TOPIC_AUTHORIZATION_FAILED" }, 0],
    ["record is too large", [10], { outcome: "NotApplied", retryable: false, reason: "MESSAGE_TOO_LARGE" }, 0],
    ["record is too large, which an earlier attempt was not", ["lostBefore", 10], { outcome: "Unknown", retryable: false }, 0],
    ["broker no longer knows where it is", ["lostAfter", 46], { ...doubt, reason: "DUPLICATE_SEQUENCE_NUMBER" }, 1],
    ["broker has lost sight of the producer meanwhile", ["lostAfter", 59], { ...doubt, reason: "UNKNOWN_PRODUCER_ID" }, 1],
    ["broker misses numbers", ["lostBefore", 45], doubt, 0]
  ])("says what became of it where the %s, and goes on", ([, fates, expected, written]) =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(1, scripted(fates))
      const producer = yield* make(kafka)
      expect(yield* inTime(Effect.flip(producer.append(one("a"))))).toMatchObject({ _tag: "EventLogError", operation: "append", topic, ...expected })
      yield* inTime(producer.append(one("b")))
      expect(kafka.logs[0]).toEqual(["a", "b"].slice(1 - written))
    }))

  it.scoped.each<readonly [string, Fate, string]>([
    ["no broker leads", 5, "NotApplied"],
    ["connections break", "lostAfter", "Unknown"]
  ])("gives up after two minutes where %s all the time", ([, fate, outcome]) =>
    Effect.gen(function*() {
      let now = fate
      const kafka = new FakeKafka(1, () => now)
      const producer = yield* make(kafka)
      const error = yield* inTime(Effect.flip(producer.append(one("a"))), "1 second")
      expect(error).toMatchObject({ outcome, retryable: true, reason: "no broker acknowledged it within 2 minutes" })
      expect(yield* TestClock.currentTimeMillis).toBeLessThan(125_000)
      const seen = kafka.attempts.length
      now = "ok"
      yield* inTime(Effect.sleep("10 seconds"))
      // It does not come later, after its caller was told.
      expect(kafka.attempts).toHaveLength(seen)
      yield* inTime(producer.append(one("b")))
      expect(kafka.logs[0]).toEqual(fate === 5 ? ["b"] : ["a", "b"])
    }))

  it.scoped("leaves an outcome open where one partition takes what another refuses", () =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(3, ({ partition }) => (partition === 1 ? 29 : "ok"))
      const producer = yield* make(kafka)
      const records = (partitions: ReadonlyArray<number>) => new Map(partitions.map((partition) => [partition, [record("a")]]))
      expect(yield* inTime(Effect.flip(producer.append(records([0, 1, 2]))))).toMatchObject({ outcome: "Unknown", retryable: false })
      expect(yield* inTime(Effect.flip(producer.append(records([1]))))).toMatchObject({ outcome: "NotApplied", retryable: false })
      expect(kafka.logs).toEqual([["a"], [], ["a"]])
    }))

  it.scoped("keeps no partition waiting for another", () =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(2, ({ partition }) => (partition === 0 ? 6 : "ok"))
      const producer = yield* make(kafka)
      const stuck = yield* Effect.fork(producer.append(one("a")))
      for (let at = 0; at < 20; at++) yield* inTime(producer.append(new Map([[1, [record(`${at}`)]]])))
      expect(kafka.logs[1]).toHaveLength(20)
      expect(kafka.refreshes).toBeGreaterThan(0)
      yield* Fiber.interrupt(stuck)
    }))

  it.scoped("cuts a batch that is too large until it is taken, in order", () =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(1, ({ values }) => (values.length > 3 ? 10 : "ok"))
      const producer = yield* make(kafka)
      const values = Array.from({ length: 50 }, (_, at) => `${at}`)
      expect(yield* inTime(producer.append(new Map([[0, values.map((value) => record(value))]])))).toEqual([{ topic, partition: 0, start: 0n, end: 50n }])
      expect(kafka.logs[0]).toEqual(values)
    }))

  it.scoped("sends what is interrupted no more, unless it is under way", () =>
    Effect.gen(function*() {
      let fate: Fate = 6
      const kafka = new FakeKafka(1, () => fate)
      const producer = yield* make(kafka)
      const fibers = yield* Effect.forEach(["a", "b", "c"], (value) => Effect.fork(producer.append(one(value))))
      yield* inTime(Effect.sleep("1 second"))
      yield* Fiber.interrupt(fibers[1]!)
      fate = "ok"
      yield* inTime(Effect.all([Fiber.join(fibers[0]!), Fiber.join(fibers[2]!)]))
      expect(kafka.logs[0]).toEqual(["a", "c"])
    }))

  it.scoped("tells those that wait when it closes", () =>
    Effect.gen(function*() {
      const kafka = new FakeKafka(2, ({ partition }) => (partition === 0 ? 19 : { written: 7 }))
      const scope = yield* Scope.make()
      const producer = yield* Scope.extend(make(kafka), scope)
      const fibers = yield* Effect.forEach([0, 1], (partition) => Effect.fork(Effect.flip(producer.append(new Map([[partition, [record("a")]]])))))
      yield* inTime(Effect.sleep("1 second"))
      yield* Scope.close(scope, Exit.void)
      expect((yield* Effect.forEach(fibers, Fiber.join)).map(({ outcome }) => outcome)).toEqual(["NotApplied", "Unknown"])
      expect(yield* Effect.flip(producer.append(one("b")))).toMatchObject({ outcome: "NotApplied", reason: "the log is closed" })
    }))

  const fate = fc.constantFrom<Fate>("ok", "ok", "lostBefore", "lostAfter", 6, 19, { written: 7 }, { written: 6 })
  const partitions = fc.array(fc.nat(2), { minLength: 1, maxLength: 3 })

  it.effect("has every record once and in order, whatever happens on the way", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(fate, { maxLength: 60 }), fc.array(partitions, { maxLength: 15 }), (fates, appends) =>
          Effect.gen(function*() {
            const kafka = new FakeKafka(3, scripted(fates))
            const producer = yield* make(kafka)
            const answers = yield* inTime(Effect.forEach(appends, (wanted, which) => {
              const records = [0, 1].map((at) => record(`${which}/${at}`))
              return producer.append(new Map(wanted.map((partition) => [partition, records])))
            }, { concurrency: "unbounded" }))
            answers.forEach((ranges, which) => {
              expect(ranges.map(({ partition }) => partition)).toEqual([...new Set(appends[which])])
              for (const { end, partition, start } of ranges) {
                expect(kafka.logs[partition]!.slice(Number(start), Number(end))).toEqual([`${which}/0`, `${which}/1`])
              }
            })
            kafka.logs.forEach((log, partition) => {
              expect(log).toHaveLength(appends.filter((wanted) => wanted.includes(partition)).length * 2)
            })
            expect(kafka.requestsAtOnce).toBeLessThanOrEqual(1)
          }).pipe(Effect.scoped, Effect.provide(TestContext.TestContext), Effect.runPromise)),
        { numRuns: 40 }
      )), 60_000)
})
