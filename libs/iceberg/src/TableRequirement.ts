/**
 * What must be true of a table before updates are applied to it, as data: the requirements of Iceberg's REST catalog protocol (OpenAPI:
 * `TableRequirement`). An id that is absent from the table counts as the protocol has it: no snapshot where a reference is missing.
 */
import { Either, Schema } from "effect"
import type { TableMetadata } from "./TableMetadata.ts"

export type TableRequirement =
  | { readonly type: "assert-create" }
  | { readonly type: "assert-table-uuid"; readonly uuid: string }
  /** `undefined`: the reference must not be there. */
  | { readonly type: "assert-ref-snapshot-id"; readonly ref: string; readonly snapshotId: bigint | undefined }
  | { readonly type: "assert-last-assigned-field-id"; readonly lastAssignedFieldId: number }
  | { readonly type: "assert-current-schema-id"; readonly currentSchemaId: number }
  | { readonly type: "assert-last-assigned-partition-id"; readonly lastAssignedPartitionId: number }
  | { readonly type: "assert-default-spec-id"; readonly defaultSpecId: number }
  | { readonly type: "assert-default-sort-order-id"; readonly defaultSortOrderId: number }

/** The table is not as the updates were made for: somebody else changed it. */
export class RequirementFailed extends Schema.TaggedError<RequirementFailed>()("RequirementFailed", {
  table: Schema.String,
  requirement: Schema.String,
  expected: Schema.String,
  found: Schema.String
}) {
  override get message() {
    return `${this.table}: ${this.requirement} expected ${this.expected}, found ${this.found}`
  }
}

const sides = (requirement: TableRequirement, metadata: TableMetadata): readonly [expected: unknown, found: unknown] => {
  switch (requirement.type) {
    case "assert-create":
      return ["no table", "a table"]
    case "assert-table-uuid":
      return [requirement.uuid.toLowerCase(), metadata.tableUuid.toLowerCase()]
    case "assert-ref-snapshot-id":
      return [requirement.snapshotId ?? "none", metadata.refs[requirement.ref]?.snapshotId ?? "none"]
    case "assert-last-assigned-field-id":
      return [requirement.lastAssignedFieldId, metadata.lastColumnId]
    case "assert-current-schema-id":
      return [requirement.currentSchemaId, metadata.currentSchemaId]
    case "assert-last-assigned-partition-id":
      return [requirement.lastAssignedPartitionId, metadata.lastPartitionId]
    case "assert-default-spec-id":
      return [requirement.defaultSpecId, metadata.defaultSpecId]
    case "assert-default-sort-order-id":
      return [requirement.defaultSortOrderId, metadata.defaultSortOrderId]
  }
}

/** Whether the table meets all of them; the first that it does not is the error. */
export const check = (
  metadata: TableMetadata,
  requirements: ReadonlyArray<TableRequirement>
): Either.Either<void, RequirementFailed> => {
  for (const requirement of requirements) {
    const [expected, found] = sides(requirement, metadata)
    if (expected === found) continue
    const failed = { table: metadata.location, requirement: requirement.type, expected: String(expected), found: String(found) }
    return Either.left(new RequirementFailed(failed))
  }
  return Either.right(undefined)
}
