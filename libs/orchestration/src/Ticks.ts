/** When a schedule's runs begin. Pure: everything follows from the time and from what was looked at before. */
import { Cron } from "effect"
import type { Schedule } from "./Dag.ts"

export interface TickDecision {
  /** The tick to begin a run for, if there is one. */
  readonly tick: Date | undefined
  /** Ticks that are passed over. */
  readonly missed: number
  /** The next tick after now. */
  readonly next: Date
}

/** A tick that was due for no longer than this is on time: nobody was away. */
export const onTimeMs = 60_000

/** Ticks before this are not counted one by one. */
const countedMs = 7 * 24 * 60 * 60_000

const minuteMs = 60_000

/**
 * The first tick after an instant. An hour that the clocks go through twice counts once for a schedule that names hours, as `Cron` has it; one of every
 * hour goes on through both.
 */
const next = (cron: Cron.Cron, after: Date): Date => {
  let found = Cron.next(cron, after)
  // From within the second time of such an hour `Cron` goes back to the first.
  for (let hours = 1; found <= after; hours++) found = Cron.next(cron, new Date(after.getTime() + hours * 60 * minuteMs))
  if (cron.hours.size > 0 && cron.hours.size < 24) return found
  const first = Math.floor(after.getTime() / minuteMs) * minuteMs + minuteMs
  for (let at = first; at < found.getTime(); at += minuteMs) if (Cron.match(cron, new Date(at))) return new Date(at)
  return found
}

/**
 * What is due at `now`, where ticks up to `seen` have been dealt with. Of several the latest counts alone, and one that is late only where the schedule
 * catches up.
 */
export const decide = (cron: Cron.Cron, catchUp: Schedule["catchUp"], seen: Date, now: Date): TickDecision => {
  let last: Date | undefined
  let due = 0
  let at = next(cron, new Date(Math.max(seen.getTime(), now.getTime() - countedMs)))
  for (; at <= now; at = next(cron, at)) {
    last = at
    due++
  }
  if (last === undefined) return { tick: undefined, missed: 0, next: at }
  const isOnTime = now.getTime() - last.getTime() <= onTimeMs
  const tick = isOnTime || catchUp === "latest" ? last : undefined
  return { tick, missed: due - (tick === undefined ? 0 : 1), next: at }
}

/** All ticks of `[from, to)`, for running what was before: at most `max`, and whether that was all. */
export const between = (cron: Cron.Cron, from: Date, to: Date, max: number): { readonly ticks: ReadonlyArray<Date>; readonly isAll: boolean } => {
  const ticks: Array<Date> = []
  for (let at = next(cron, new Date(from.getTime() - 1000)); at < to; at = next(cron, at)) {
    if (ticks.length === max) return { ticks, isAll: false }
    ticks.push(at)
  }
  return { ticks, isAll: true }
}
