/**
 * What is to be sent to one partition: the parts of appends, in order, and the batches that they are cut into. One batch is under way at a time, and
 * the next is made meanwhile. A batch that may have been written is sent again as it is, with its sequence number, by which the broker knows it;
 * one that was not written is cut anew.
 */
import { invariant, type Outcome } from "@voltlake/domain/Failure"
import type { NewRecord } from "./EventLog.ts"
import * as KafkaProduce from "./KafkaProduce.ts"
import { type Body, bytesMax, type Span, type Stamp } from "./KafkaRecordBatchWriter.ts"

/** Of a batch before it is compressed, about: brokers refuse more than 1 MiB in one unless told otherwise. */
const batchBytesMax = 900 * 1024
/** Made or under way at once. */
const batchesMax = 2
const waitMinMs = 100
const waitMaxMs = 2_000

export interface Fault {
  readonly outcome: Outcome
  readonly retryable: boolean
  readonly reason: string
}

/** Offsets from the first record's to behind the last one's. */
interface Range {
  readonly start: bigint
  readonly end: bigint
}

/** An append's records for the partition. */
export class Part {
  /** Records that batches hold, or held. */
  taken = 0
  acknowledged = 0
  /** Its caller knows how it ended, or asks no more. */
  isOver = false
  private start: bigint | undefined = undefined

  constructor(
    readonly records: ReadonlyArray<NewRecord>,
    readonly deadlineMs: number,
    private readonly done: (result: Range | Fault) => void
  ) {}

  acknowledge(base: bigint, count: number): void {
    this.start ??= base
    this.acknowledged += count
    if (this.acknowledged === this.records.length) this.settle({ start: this.start, end: base + BigInt(count) })
  }

  fail(fault: Fault): void {
    this.settle(this.acknowledged > 0 ? { ...fault, outcome: "Unknown" } : fault)
  }

  private settle(result: Range | Fault): void {
    if (!this.isOver) this.done(result)
    this.isOver = true
  }
}

interface PartSpan extends Span {
  readonly part: Part
}

/** Records taken for a batch that is being made. */
export interface Cut {
  readonly spans: ReadonlyArray<PartSpan>
  /** That they take, at most. */
  readonly bytes: number
  readonly generation: number
}

interface Batch {
  readonly spans: ReadonlyArray<PartSpan>
  /** That its records took before they were compressed, at most. */
  readonly bytesMax: number
  readonly body: Body
  stamp: Stamp | undefined
  /** An earlier attempt may have written it. */
  isInDoubt: boolean
}

/** Under which batches are numbered. Compared as an object: another object, another identity. */
export interface Identity {
  readonly producerId: bigint
  readonly producerEpoch: number
}

export class KafkaSendQueue {
  isUnderWay = false
  private isBeingMade = false
  private parts: Array<Part> = []
  private batches: Array<Batch> = []
  /** Another number than a cut's says that its records were given back. */
  private generation = 0
  private identity: Identity | undefined = undefined
  private sequence = 0
  private bytesMax = batchBytesMax
  private failures = 0
  private notBeforeMs = 0

  constructor(readonly partition: number) {}

  add(part: Part): void {
    this.parts.push(part)
  }

  /** Takes the records of the next batch; undefined where one is being made, or enough are, or there are none. */
  cut(): Cut | undefined {
    if (this.isBeingMade || this.batches.length >= batchesMax) return undefined
    const spans: Array<PartSpan> = []
    let bytes = 0
    for (const part of this.parts) {
      if (part.isOver || part.taken === part.records.length) continue
      const from = part.taken
      while (part.taken < part.records.length) {
        const size = bytesMax(part.records[part.taken]!)
        if (bytes > 0 && bytes + size > this.bytesMax) break
        bytes += size
        part.taken += 1
      }
      if (part.taken > from) spans.push({ part, records: part.records, from, to: part.taken })
      if (part.taken < part.records.length) break
    }
    if (spans.length === 0) return undefined
    this.isBeingMade = true
    return { spans, bytes, generation: this.generation }
  }

  /** Takes what became of a cut. */
  made({ bytes, generation, spans }: Cut, result: Body | Fault): void {
    this.isBeingMade = false
    if (generation !== this.generation) return
    if ("reason" in result) for (const { part } of spans) part.fail(result)
    else this.batches.push({ spans, bytesMax: bytes, body: result, stamp: undefined, isInDoubt: false })
    this.sweep()
  }

  /** A batch is there, or is about to be, that need not wait. */
  isDue(nowMs: number): boolean {
    return !this.isUnderWay && this.notBeforeMs <= nowMs && (this.batches.length > 0 || this.isBeingMade)
  }

  get isReady(): boolean {
    return this.batches.length > 0
  }

  /** Bytes of the next batch in a request. */
  get bytes(): number {
    return KafkaProduce.batchBytes(this.batches[0]!.body)
  }

  /** The next batch, numbered. */
  begin(topic: string, codec: number, identity: Identity): KafkaProduce.SentBatch {
    const batch = this.batches[0]
    invariant(batch !== undefined && this.isUnderWay, "a batch is begun that is there")
    if (batch.stamp === undefined) {
      if (this.identity === undefined) this.sequence = 0
      this.identity ??= identity
      batch.stamp = { producerId: this.identity.producerId, producerEpoch: this.identity.producerEpoch, sequence: this.sequence }
    }
    return { topic, partition: this.partition, body: batch.body, codec, stamp: batch.stamp }
  }

  /** Takes a broker's answer; answers the identity that must not be used any more, if there is one. */
  answered(errorCode: number, base: bigint, nowMs: number): Identity | undefined {
    const batch = this.batches[0]!
    this.isUnderWay = false
    const reason = KafkaProduce.nameOf(errorCode)
    if (errorCode === 0 && base >= 0n) return this.accept(batch, base)
    // Written, but nobody says where.
    if (errorCode === 0) return this.give(batch, { outcome: "Unknown", retryable: true, reason: "it was acknowledged without an offset" })
    switch (KafkaProduce.verdictOf(errorCode)) {
      case "again":
        return this.wait(nowMs)
      case "doubtful":
        batch.isInDoubt = true
        return this.wait(nowMs)
      case "duplicate":
        batch.isInDoubt = true
        return this.give(batch, { outcome: "Unknown", retryable: true, reason })
      case "identity": {
        if (batch.isInDoubt) return this.give(batch, { outcome: "Unknown", retryable: true, reason })
        this.recut(undefined)
        this.wait(nowMs)
        return this.leave()
      }
      case "large":
        if (batch.body.count > 1 && !batch.isInDoubt) {
          this.bytesMax = Math.max(Math.floor(batch.bytesMax / 2), 1)
          return this.recut(undefined)
        }
    }
    return this.give(batch, { outcome: "NotApplied", retryable: false, reason })
  }

  /** Takes that no answer came; `isSent` says whether the request may have gone out. */
  lost(isSent: boolean, fault: Fault, nowMs: number): Identity | undefined {
    const batch = this.batches[0]!
    this.isUnderWay = false
    if (isSent) batch.isInDoubt = true
    return fault.retryable ? this.wait(nowMs) : this.give(batch, fault)
  }

  /** Gives up what has waited too long, and what nobody waits for. Answers as {@link answered} does. */
  expire(nowMs: number, fault: Fault): Identity | undefined {
    const { held } = this
    let left: Identity | undefined
    if (held !== undefined && !this.isUnderWay) {
      const isLate = held.spans.some(({ part }) => !part.isOver && part.deadlineMs <= nowMs)
      // What may have been written for others too is sent on with theirs.
      if (isLate || held.spans.every(({ part }) => part.isOver)) left = this.give(held, fault)
    }
    for (const part of this.parts) {
      if (part.deadlineMs <= nowMs && this.held?.spans.some((span) => span.part === part) !== true) part.fail(fault)
    }
    this.sweep()
    return left
  }

  /** Fails everything, for good. */
  close(fault: Fault): void {
    const { held } = this
    for (const part of this.parts) {
      part.fail(held?.spans.some((span) => span.part === part) === true ? { ...fault, outcome: "Unknown" } : fault)
    }
    this.parts = []
  }

  /** The batch that must stay as it is. */
  private get held(): Batch | undefined {
    const [first] = this.batches
    return first !== undefined && (this.isUnderWay || first.isInDoubt) ? first : undefined
  }

  private accept(batch: Batch, base: bigint): undefined {
    let at = base
    for (const { from, part, to } of batch.spans) {
      part.acknowledge(at, to - from)
      at += BigInt(to - from)
    }
    this.sequence = (this.sequence + batch.body.count) % 2 ** 31
    this.batches.shift()
    this.failures = 0
    this.sweep()
  }

  /** Gives the first batch up. Where it may have been written, its numbers are not used again. */
  private give(batch: Batch, fault: Fault): Identity | undefined {
    const outcome = batch.isInDoubt ? "Unknown" : fault.outcome
    for (const { part } of batch.spans) part.fail({ ...fault, outcome })
    this.recut(undefined)
    return outcome === "Unknown" ? this.leave() : undefined
  }

  private leave(): Identity | undefined {
    const left = this.identity
    this.identity = undefined
    return left
  }

  private wait(nowMs: number): undefined {
    this.notBeforeMs = nowMs + Math.min(waitMinMs * 2 ** this.failures, waitMaxMs)
    this.failures += 1
  }

  /** Forgets parts that are over. A batch that holds records of such and was not sent is cut anew. */
  private sweep(): void {
    if (this.parts.some((part) => part.isOver)) this.parts = this.parts.filter((part) => !part.isOver)
    const { held } = this
    if (this.batches.some((batch) => batch !== held && batch.spans.some(({ part }) => part.isOver))) this.recut(held)
  }

  /** Gives the records of all batches back, but for one's that is kept. */
  private recut(kept: Batch | undefined): undefined {
    this.generation += 1
    this.batches = kept === undefined ? [] : [kept]
    this.parts = this.parts.filter((part) => !part.isOver)
    for (const part of this.parts) part.taken = part.acknowledged
    for (const { part, to } of kept?.spans ?? []) part.taken = to
  }
}
