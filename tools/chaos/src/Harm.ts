/** A proxy before S3 whose faults change over the run: refusals, broken connections before and after a request was applied, slow answers. */
import { Effect, Exit, Scope } from "effect"
import * as FaultProxy from "@voltlake/testing/FaultProxy"

const plans: ReadonlyArray<FaultProxy.FaultPlan | undefined> = [
  { fault: "unavailable", share: 0.3 },
  { fault: "resetBefore", share: 0.2 },
  undefined,
  { fault: "resetAfter", share: 0.2 },
  { fault: "delay", share: 0.2, delayMs: 2000 },
  { fault: "truncate", share: 0.2 }
]
const changeEveryMs = 2_000

export interface Harm {
  readonly endpoint: string
  /** Requests harmed so far, by fault. */
  readonly harmed: () => Readonly<Record<string, number>>
  /** No more faults; requests pass. */
  readonly calm: () => Promise<void>
  readonly close: () => Promise<void>
}

export const start = async (endpoint: string, seed: number): Promise<Harm> => {
  const scope = await Effect.runPromise(Scope.make())
  const proxy = await Effect.runPromise(Scope.extend(FaultProxy.make(endpoint, seed), scope))
  const harmed: Record<string, number> = {}
  let at = 0
  const count = () => {
    const plan = plans[(at - 1 + plans.length) % plans.length]
    if (at > 0 && plan !== undefined) harmed[plan.fault] = (harmed[plan.fault] ?? 0) + proxy.counts().harmed
  }
  const next = (plan: FaultProxy.FaultPlan | undefined) => {
    count()
    return Effect.runPromise(proxy.plan(plan))
  }
  const change = async () => {
    await next(plans[at % plans.length])
    at += 1
  }
  await change()
  const timer = setInterval(() => void change(), changeEveryMs)
  return {
    endpoint: proxy.url,
    harmed: () => harmed,
    calm: async () => {
      clearInterval(timer)
      await next(undefined)
      at = 0
    },
    close: async () => {
      clearInterval(timer)
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}
