import { expect, it } from "@effect/vitest"
import { Effect, Metric, MetricBoundaries } from "effect"
import * as Prometheus from "./Prometheus.ts"

const linesOf = (text: string, name: string) => text.split("\n").filter((line) => line.includes(name))

it.scoped("tells counters, gauges and histograms as Prometheus reads them, with labels escaped", () =>
  Effect.gen(function*() {
    const counter = Metric.counter("test_things_total", { description: "Things\nof a test", incremental: true, bigint: true })
    yield* Metric.incrementBy(Metric.tagged(counter, "kind", "a\"b\\c\nd"), 9_007_199_254_740_993n)
    yield* Metric.incrementBy(Metric.tagged(counter, "kind", "e"), 1n)
    yield* Metric.set(Metric.gauge("test_level"), -1.5)
    const histogram = Metric.histogram("test_took_seconds", MetricBoundaries.fromIterable([0.1, 1]))
    for (const seconds of [0.05, 0.1, 0.5, 7]) yield* Metric.update(histogram, seconds)
    const text = yield* yield* Prometheus.make
    expect(linesOf(text, "test_things_total").sort()).toEqual([
      "# HELP test_things_total Things\\nof a test",
      "# TYPE test_things_total counter",
      "test_things_total{kind=\"a\\\"b\\\\c\\nd\"} 9007199254740993",
      "test_things_total{kind=\"e\"} 1"
    ])
    expect(linesOf(text, "test_level")).toEqual(["# TYPE test_level gauge", "test_level -1.5"])
    expect(linesOf(text, "test_took_seconds")).toEqual([
      "# TYPE test_took_seconds histogram",
      "test_took_seconds_bucket{le=\"0.1\"} 2",
      "test_took_seconds_bucket{le=\"1\"} 3",
      "test_took_seconds_bucket{le=\"+Inf\"} 4",
      "test_took_seconds_sum 7.65",
      "test_took_seconds_count 4"
    ])
    expect(Number(linesOf(text, "process_resident_memory_bytes").at(-1)?.split(" ")[1])).toBeGreaterThan(1e6)
    expect(text.endsWith("\n")).toBe(true)
  }))
