/**
 * Snapshots and references as JSON (specification: Appendix C). Unknown fields are kept.
 *
 * A snapshot's text is made once and remembered beside it: a commit writes all snapshots anew, and only one of them is new.
 */
import type { Json, JsonObject, Node } from "./Json.ts"
import { encode as encodeJson } from "./Json.ts"
import type { Snapshot, SnapshotReference } from "./Snapshot.ts"

const snapshotFields = new Set([
  "snapshot-id",
  "parent-snapshot-id",
  "sequence-number",
  "timestamp-ms",
  "manifest-list",
  "summary",
  "schema-id"
])

export const decodeSnapshot = (node: Node): Snapshot => ({
  snapshotId: node.at("snapshot-id").long(),
  parentSnapshotId: node.at("parent-snapshot-id").optional((id) => id.long()),
  sequenceNumber: node.at("sequence-number").optional((value) => value.long()) ?? 0n,
  timestampMs: node.at("timestamp-ms").int(),
  manifestList: node.at("manifest-list").string(),
  summary: node.at("summary").strings(),
  schemaId: node.at("schema-id").optional((id) => id.int()),
  extra: node.extra(snapshotFields)
})

export const encodeSnapshot = (snapshot: Snapshot): Json => ({
  "snapshot-id": snapshot.snapshotId,
  ...(snapshot.parentSnapshotId === undefined ? {} : { "parent-snapshot-id": snapshot.parentSnapshotId }),
  "sequence-number": snapshot.sequenceNumber,
  "timestamp-ms": snapshot.timestampMs,
  "manifest-list": snapshot.manifestList,
  summary: snapshot.summary,
  ...(snapshot.schemaId === undefined ? {} : { "schema-id": snapshot.schemaId }),
  ...snapshot.extra
})

const snapshotTexts = new WeakMap<Snapshot, string>()

export const snapshotText = (snapshot: Snapshot): string => {
  const known = snapshotTexts.get(snapshot)
  if (known !== undefined) return known
  const text = encodeJson(encodeSnapshot(snapshot))
  snapshotTexts.set(snapshot, text)
  return text
}

const referenceFields = ["snapshot-id", "type"]

/** `beside` are fields of the same object that belong to something else. */
export const decodeReference = (node: Node, beside: ReadonlyArray<string> = []): SnapshotReference => {
  const type = node.at("type").string()
  if (type !== "branch" && type !== "tag") return node.at("type").fail(`expected branch or tag, found ${type}`)
  return { snapshotId: node.at("snapshot-id").long(), type, extra: node.extra(new Set([...referenceFields, ...beside])) }
}

export const encodeReference = (reference: SnapshotReference): JsonObject => ({
  "snapshot-id": reference.snapshotId,
  type: reference.type,
  ...reference.extra
})
