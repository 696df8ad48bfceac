import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import { positionTag, type Snapshot } from "@voltlake/iceberg/Snapshot"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import * as TableMetadata from "@voltlake/iceberg/TableMetadata"
import { long, required, schema } from "@voltlake/iceberg/Type"
import * as LogLineage from "./LogLineage.ts"

const definition = { schema: schema([required(1, "offset", long)]), specs: [PartitionSpec.unpartitioned], sortOrder: SortOrder.unsorted, properties: {} }

const snapshot = (id: bigint, parent: bigint, summary: Snapshot["summary"]): Snapshot => ({
  snapshotId: id,
  parentSnapshotId: parent,
  sequenceNumber: id,
  timestampMs: Number(id),
  manifestList: `l${id}`,
  summary: { operation: "replace", "total-records": "7", ...summary },
  schemaId: 0,
  extra: {}
})

it("is known where others rewrote the table and expired what was between", () => {
  const adopted = LogLineage.adopted(LogLineage.empty, "telemetry_raw")
  const found = LogLineage.of({
    ...TableMetadata.make(definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 }),
    snapshots: [snapshot(3n, 2n, LogLineage.summary(adopted)), snapshot(5n, 4n, {})],
    currentSnapshotId: 5n,
    refs: { [positionTag]: { snapshotId: 3n, type: "tag", extra: {} } }
  })
  expect(Either.map(found, (lineage) => LogLineage.nameOf(lineage, "telemetry_raw"))).toEqual(Either.right("telemetry_raw~2"))
})
