/**
 * What went wrong, as Iceberg's REST protocol says it (OpenAPI: `ErrorModel`): a status, the name of an exception, words.
 *
 * Clients take 500, 502 and 504 of a commit for "unknown, keep the files", and 503 for "did not happen". So a commit answers 500 only where its outcome
 * is unknown indeed.
 */
import { Schema } from "effect"
import type {
  CatalogError,
  CommitConflict,
  CommitRetired,
  NamespaceAlreadyExists,
  NamespaceNotEmpty,
  NamespaceNotFound,
  TableAlreadyExists,
  TableNotFound
} from "@voltlake/iceberg/Catalog"
import type { JsonInvalid } from "@voltlake/iceberg/Json"
import type { TableReadError, TableWriteError } from "@voltlake/iceberg/TableFiles"
import type { RequirementFailed } from "@voltlake/iceberg/TableRequirement"
import type { UpdateRefused } from "@voltlake/iceberg/TableUpdate"
import type { OwnTableRefused } from "./OwnTables.ts"

export class Fault extends Schema.TaggedError<Fault>()("Fault", {
  status: Schema.Number,
  type: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}

/** All that can go wrong below the routes. */
export type Failure =
  | Fault
  | CatalogError
  | CommitConflict
  | CommitRetired
  | NamespaceAlreadyExists
  | NamespaceNotEmpty
  | NamespaceNotFound
  | TableAlreadyExists
  | TableNotFound
  | JsonInvalid
  | TableReadError
  | TableWriteError
  | RequirementFailed
  | UpdateRefused
  | OwnTableRefused

export const badRequest = (reason: string): Fault => new Fault({ status: 400, type: "BadRequestException", reason })

/** Reads whose failure says nothing of changes. */
const reads = new Set(["namespaces", "list", "metadataLocation", "namespaceProperties", "heads", "expiredFiles"])

const statusOf = (error: Exclude<Failure, Fault>): readonly [status: number, type: string] => {
  switch (error._tag) {
    case "TableNotFound":
      return [404, "NoSuchTableException"]
    case "NamespaceNotFound":
      return [404, "NoSuchNamespaceException"]
    case "TableAlreadyExists":
    case "NamespaceAlreadyExists":
      return [409, "AlreadyExistsException"]
    case "NamespaceNotEmpty":
      return [409, "NamespaceNotEmptyException"]
    case "RequirementFailed":
    case "CommitConflict":
    case "CommitRetired":
      return [409, "CommitFailedException"]
    case "UpdateRefused":
    case "JsonInvalid":
    case "LocationForeign":
      return [400, "BadRequestException"]
    case "OwnTableRefused":
      return [403, "ForbiddenException"]
    case "FormatVersionUnsupported":
      return [406, "UnsupportedOperationException"]
    case "CatalogError":
      return error.outcome === "Unknown" && !reads.has(error.operation)
        ? [500, "CommitStateUnknownException"]
        : [503, "ServiceUnavailableException"]
    case "ObjectStoreError":
    case "ObjectNotFound":
    case "ObjectExists":
    case "TableFileInvalid":
      return [503, "ServiceUnavailableException"]
  }
}

export const faultOf = (error: Failure): Fault => {
  if (error._tag === "Fault") return error
  const [status, type] = statusOf(error)
  return new Fault({ status, type, reason: error.message })
}
