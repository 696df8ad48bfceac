/** Effect's metrics, and those of the process, in the text format that Prometheus scrapes: https://prometheus.io/docs/instrumenting/exposition_formats/ */
import { Effect, Metric, type MetricPair, MetricState } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"

export const contentType = "text/plain; version=0.0.4; charset=utf-8"

type Type = "counter" | "gauge" | "histogram" | "summary"

interface Sample {
  /** Of the metric's name: `_bucket`, `_sum`, or nothing. */
  readonly suffix: string
  readonly labels: ReadonlyArray<readonly [string, string]>
  readonly value: number | bigint
}

interface Family {
  readonly name: string
  readonly type: Type
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

const nameOf = (text: string) => text.replace(/[^a-zA-Z0-9_:]/g, "_").replace(/^(?=\d)/, "_")
const escaped = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")
const numberOf = (value: number | bigint) => (value === Infinity ? "+Inf" : String(value))

const line = (name: string, { labels, suffix, value }: Sample) => {
  const text = labels.map(([label, content]) => `${nameOf(label)}="${escaped(content).replaceAll("\"", "\\\"")}"`).join(",")
  return `${name}${suffix}${text === "" ? "" : `{${text}}`} ${numberOf(value)}`
}

const render = ({ help, name, samples, type }: Family) =>
  [...(help === "" ? [] : [`# HELP ${name} ${escaped(help)}`]), `# TYPE ${name} ${type}`, ...samples.map((sample) => line(name, sample))].join("\n")

type Labels = Sample["labels"]

/** What one metric with its tags says; undefined for what Prometheus has no form of. */
const samplesOf = (state: MetricState.MetricState.Untyped, labels: Labels): readonly [Type, ReadonlyArray<Sample>] | undefined => {
  const totals = (sum: number, count: number) => [{ suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: count }]
  if (MetricState.isCounterState(state)) return ["counter", [{ suffix: "", labels, value: state.count }]]
  if (MetricState.isGaugeState(state)) return ["gauge", [{ suffix: "", labels, value: state.value }]]
  if (MetricState.isHistogramState(state)) {
    const finite = state.buckets.filter(([bound]) => Number.isFinite(bound) && bound !== Number.MAX_VALUE)
    const buckets = [...finite, [Infinity, state.count] as const].map(([bound, value]) =>
      ({ suffix: "_bucket", labels: [...labels, ["le", numberOf(bound)] as const], value }))
    return ["histogram", [...buckets, ...totals(state.sum, state.count)]]
  }
  if (MetricState.isFrequencyState(state)) {
    return ["counter", Array.from(state.occurrences, ([key, value]) => ({ suffix: "", labels: [...labels, ["key", key] as const], value }))]
  }
  return undefined
}

/** Metrics of one name, with whatever tags, are one family. */
const familiesOf = (pairs: ReadonlyArray<MetricPair.MetricPair.Untyped>): ReadonlyArray<Family> => {
  const families = new Map<string, Family & { readonly samples: Array<Sample> }>()
  for (const { metricKey, metricState } of pairs) {
    const found = samplesOf(metricState, metricKey.tags.map(({ key, value }) => [key, value] as const))
    if (found === undefined) continue
    const [type, samples] = found
    const name = nameOf(metricKey.name)
    const help = metricKey.description._tag === "Some" ? metricKey.description.value : ""
    const family = families.get(name) ?? { name, type, help, samples: [] }
    families.set(name, family)
    family.samples.push(...samples)
  }
  return Array.from(families.values()).sort((a, b) => (a.name < b.name ? -1 : 1))
}

const gauge = (name: string, help: string, value: number): Family => ({ name, type: "gauge", help, samples: [{ suffix: "", labels: [], value }] })

/** The names are those that Prometheus's own client libraries use. */
const processFamilies = (loop: { readonly mean: number; readonly max: number }): ReadonlyArray<Family> => {
  const cpu = process.cpuUsage()
  const memory = process.memoryUsage()
  const seconds = (nanoseconds: number) => (Number.isFinite(nanoseconds) ? nanoseconds / 1e9 : 0)
  return [
    {
      name: "process_cpu_seconds_total",
      type: "counter",
      help: "Processor time of the process",
      samples: [{ suffix: "", labels: [], value: (cpu.user + cpu.system) / 1e6 }]
    },
    gauge("process_resident_memory_bytes", "Memory that the process holds", memory.rss),
    gauge("process_uptime_seconds", "Since the process began", process.uptime()),
    gauge("nodejs_heap_size_used_bytes", "Used heap of JavaScript", memory.heapUsed),
    gauge("nodejs_external_memory_bytes", "Memory outside the heap that JavaScript holds", memory.external),
    gauge("nodejs_eventloop_lag_mean_seconds", "Delay of the event loop since the last scrape", seconds(loop.mean)),
    gauge("nodejs_eventloop_lag_max_seconds", "Greatest delay of the event loop since the last scrape", seconds(loop.max))
  ]
}

/** Begins to measure the process; answers the effect that tells all metrics as text. */
export const make = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const loop = monitorEventLoopDelay({ resolution: 20 })
      loop.enable()
      return loop
    }),
    (loop) => Effect.sync(() => loop.disable())
  ),
  (loop) =>
    Effect.map(Metric.snapshot, (pairs) => {
      const families = [...familiesOf(pairs), ...processFamilies(loop)]
      loop.reset()
      return `${families.map(render).join("\n")}\n`
    })
)
