import type { StageStatus } from "@voltlake/api/LakeApi"
import { Chart } from "./Chart.tsx"
import { useLive } from "./live.ts"

const number = new Intl.NumberFormat("en")

const what: Record<StageStatus["stage"], string> = {
  ingest: "records in the log",
  bronze: "rows, as received",
  silver: "rows, checked, each once",
  gold: "events in minute metrics"
}

const minuteMs = 60_000

type Point = readonly [minute: number, value: number | null]

/** A minute without events between two that have some breaks the line: nothing was measured there. */
const withGaps = (points: ReadonlyArray<Point>): ReadonlyArray<Point> =>
  points.flatMap((point, index): ReadonlyArray<Point> => {
    const before = points[index - 1]
    return before !== undefined && point[0] - before[0] > minuteMs ? [[before[0] + minuteMs, null], point] : [point]
  })

/** With the year: replayed events may be old. */
const range = ({ from, to }: { readonly from: number | undefined; readonly to: number | undefined }) =>
  from === undefined || to === undefined ? "" : `: ${minuteText(from)} to ${minuteText(to)}`

const minuteText = (ms: number) => new Date(ms).toISOString().slice(0, 16).replace("T", " ")

const connections = { connecting: "connecting …", live: "live", lost: "connection lost, trying again" }

const StageCard = ({ status }: { readonly status: StageStatus }) => (
  <section className="card" data-stage={status.stage}>
    <div className="head">
      <h2>{status.stage}</h2>
      {/* Ingest is whoever writes to the log: it has no loop here that could be healthy or not. */}
      {status.stage === "ingest"
        ? null
        : <span className={`state ${status.state}`}>{status.state === "unknown" ? "elsewhere" : status.state}</span>}
    </div>
    <div className="number" data-rows={status.rows}>{number.format(status.rows)}</div>
    <div className="quiet">{what[status.stage]}</div>
    {status.stage === "ingest" ? null : <div className="quiet">lag {number.format(status.lag)}</div>}
    {status.reason === "" ? null : <div className="reason">{status.reason}</div>}
  </section>
)

export const App = () => {
  const { connection, dashboard } = useLive()
  const minutes = dashboard?.minutes ?? []
  const status = dashboard?.status
  const times = minutes.map((point) => Date.parse(point.minute))
  const span = { from: times.at(0), to: times.at(-1) }
  return (
    <main>
      <header>
        <h1>Voltlake</h1>
        <span className="quiet">vehicle telemetry, from event to chart</span>
        <span className={`connection ${connection}`} data-connection={connection} role="status">{connections[connection]}</span>
      </header>
      {status === undefined ? null : (
        <>
          <div className="stages">{status.stages.map((stage) => <StageCard key={stage.stage} status={stage} />)}</div>
          <div className="card totals">
            <span><b>{number.format(status.rejected)}</b> rejected, kept with their cause</span>
            <span><b>{number.format(status.duplicates)}</b> duplicates dropped</span>
            {status.skipped + status.lost === 0
              ? null
              : <span><b>{number.format(status.skipped)}</b> skipped, <b>{number.format(status.lost)}</b> lost</span>}
          </div>
        </>
      )}
      <p className="quiet caption">The latest minutes that have events, by event time in UTC{range(span)}. The battery is the least of the fleet.</p>
      <div className="charts">
        <Chart
          title="Tesla Battery Level Over Time"
          kind="line"
          unit="%"
          color="#2563eb"
          max={100}
          {...span}
          points={withGaps(minutes.map((point, index) => [times[index]!, point.batteryPercent]))}
        />
        <Chart
          title="Tesla Telemetry Events Per Minute"
          kind="bar"
          unit=""
          color="#0d9488"
          {...span}
          points={minutes.map((point, index) => [times[index]!, point.events])}
        />
      </div>
    </main>
  )
}
