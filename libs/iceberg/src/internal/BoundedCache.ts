/**
 * Remembers what immutable files hold. Bounded by the sum of its entries' weights; what was not used for longest goes first.
 *
 * Failures are not remembered. Two fibers that miss at once both look: rare, and cheaper than one waiting for the other's interruption.
 */
import { Effect } from "effect"

export interface BoundedCache<A> {
  readonly get: <E, R>(key: string, lookup: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly set: (key: string, value: A) => void
}

export const make = <A>(weightMax: number, weight: (value: A) => number): BoundedCache<A> => {
  const entries = new Map<string, A>()
  let total = 0
  const set = (key: string, value: A): void => {
    const known = entries.get(key)
    if (known !== undefined) total -= weight(known)
    entries.delete(key)
    entries.set(key, value)
    total += weight(value)
    for (const [oldest, stale] of entries) {
      if (total <= weightMax || oldest === key) break
      entries.delete(oldest)
      total -= weight(stale)
    }
  }
  return {
    set,
    get: (key, lookup) =>
      Effect.suspend(() => {
        const known = entries.get(key)
        if (known === undefined) return Effect.tap(lookup, (value) => Effect.sync(() => set(key, value)))
        entries.delete(key)
        entries.set(key, known)
        return Effect.succeed(known)
      })
  }
}
