import { BarChart, LineChart } from "echarts/charts"
import { GridComponent, TitleComponent, TooltipComponent } from "echarts/components"
import * as echarts from "echarts/core"
import { SVGRenderer } from "echarts/renderers"
import { useEffect, useRef } from "react"

echarts.use([BarChart, LineChart, GridComponent, TitleComponent, TooltipComponent, SVGRenderer])

export interface ChartProps {
  readonly title: string
  readonly kind: "line" | "bar"
  readonly unit: string
  readonly color: string
  /** Milliseconds of the minute and its value; null leaves a gap. */
  readonly points: ReadonlyArray<readonly [number, number | null]>
  /** The same for both charts, so that they can be read together. */
  readonly from: number | undefined
  readonly to: number | undefined
  readonly max?: number
}

/** Read anew for each drawing: the page follows the system's light or dark scheme. */
const cssColor = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

const axisColors = () => ({
  axisLabel: { color: cssColor("--quiet") },
  axisLine: { lineStyle: { color: cssColor("--quiet") } }
})

const option = ({ title, kind, unit, color, points, from, to, max }: ChartProps) => ({
  animation: false,
  useUTC: true,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
  title: { text: title, textStyle: { fontSize: 15, color: cssColor("--text") } },
  grid: { left: 56, right: 20, top: 44, bottom: 24 },
  tooltip: { trigger: "axis" as const },
  xAxis: { type: "time" as const, ...(from === undefined ? {} : { min: from - 60_000 }), ...(to === undefined ? {} : { max: to + 60_000 }), ...axisColors() },
  yAxis: { type: "value" as const, min: 0, ...(max === undefined ? {} : { max }), axisLabel: { formatter: `{value}${unit}`, color: cssColor("--quiet") }, splitLine: { lineStyle: { color: cssColor("--line") } } },
  series: [{
    type: kind,
    data: points.map(([minute, value]) => [minute, value]),
    connectNulls: false,
    itemStyle: { color },
    barMaxWidth: 24,
    // A point without neighbours has no line: its symbol is all there is of it.
    showSymbol: true,
    showAllSymbol: true,
    symbol: "circle",
    symbolSize: points.length < 60 ? 5 : 3
  }]
})

export const Chart = (props: ChartProps) => {
  const element = useRef<HTMLDivElement>(null)
  const chart = useRef<echarts.ECharts>(undefined)
  useEffect(() => {
    const made = echarts.init(element.current!)
    chart.current = made
    const observer = new ResizeObserver(() => made.resize())
    observer.observe(element.current!)
    return () => {
      observer.disconnect()
      made.dispose()
    }
  }, [])
  useEffect(() => {
    chart.current?.setOption(option(props))
  }, [props])
  const last = props.points.at(-1)
  const label = last === undefined ? `${props.title}: no data yet` : `${props.title}: ${last[1] ?? "no value"}${props.unit} at ${new Date(last[0]).toISOString()}`
  return <div className="card"><div className="chart" ref={element} role="img" aria-label={label} data-points={props.points.length} /></div>
}
