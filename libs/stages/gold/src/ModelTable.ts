/** A gold model's Iceberg table: made from its columns, and read for the silver that its last commit was computed from. */
import { Effect, Either, Schema } from "effect"
import { createHash } from "node:crypto"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import { goldNamespace, goldSourceKey, ModelInvalid } from "@voltlake/domain/GoldModel"
import * as Position from "@voltlake/domain/Position"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { currentSchema, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transform from "@voltlake/iceberg/Transform"
import type { IcebergType, TableSchema } from "@voltlake/iceberg/Type"
import type { ColumnType, ModelColumn } from "./ModelCheck.ts"

/** A model that was checked. */
export interface CheckedModel {
  readonly model: GoldModel
  readonly columns: ReadonlyArray<ModelColumn>
}

export const identifier = (model: GoldModel): TableIdentifier => ({ namespace: goldNamespace, name: model.name })

/** The silver that a gold table was computed from. */
export class Source extends Schema.Class<Source>("GoldSource")({
  /** Of the model's SQL and what else its rows depend on: another model's rows are no base for this one's. */
  model: Schema.String,
  silverEpoch: Schema.Number,
  silverRemoval: Schema.String,
  position: Schema.ReadonlyMapFromRecord({ key: Schema.String, value: Schema.BigInt })
}) {}

export const equals = (a: Source, b: Source): boolean =>
  a.model === b.model && a.silverEpoch === b.silverEpoch && a.silverRemoval === b.silverRemoval && Position.equals(a.position, b.position)

export const modelHash = ({ grain, key, lookback, sql, time }: GoldModel): string =>
  createHash("sha256").update(JSON.stringify([sql, key, time, grain, String(lookback)])).digest("hex").slice(0, 32)

const SourceText = Schema.parseJson(Source)

export const summary = (source: Source): Record<string, string> => ({ [goldSourceKey]: Schema.encodeSync(SourceText)(source) })

/** None for a new table, and where it cannot be read: then the table is computed anew. */
export const sourceOf = (metadata: TableMetadata): Source | undefined => {
  const text = NewSnapshot.nearestOwn(metadata)?.summary[goldSourceKey]
  return text === undefined ? undefined : Either.getOrUndefined(Schema.decodeEither(SourceText)(text))
}

const icebergType = (type: ColumnType): IcebergType => {
  switch (type) {
    case "text":
      return { type: "string" }
    case "integer":
      return { type: "int" }
    case "bigint":
      return { type: "long" }
    case "decimal":
      return { type: "decimal", precision: 38, scale: 6 }
    case "double":
    case "timestamp":
    case "boolean":
      return { type }
  }
}

const schemaOf = ({ columns, model }: CheckedModel): TableSchema => ({
  schemaId: 0,
  identifierFieldIds: [],
  fields: columns.map(({ doc, name, type }, index) => ({
    id: index + 1,
    name,
    required: model.key.includes(name),
    type: icebergType(type),
    doc: doc === "" ? undefined : doc
  }))
})

export const daySpecId = 0
const firstPartitionFieldId = 1000
const sortOrderId = 1

const shape = ({ fields }: TableSchema) => fields.map(({ name, required, type }) => JSON.stringify([name, required, type])).sort().join("\n")

/** The table, made where there is none. Fails where it has other columns than the model. */
export const ensure = Effect.fn("ModelTable.ensure")(function*(checked: CheckedModel) {
  const { model } = checked
  const schema = schemaOf(checked)
  const idOf = (name: string) => schema.fields.find((field) => field.name === name)!.id
  const table = yield* (yield* Tables).createIfAbsent(identifier(model), {
    schema,
    specs: [PartitionSpec.make(daySpecId, [{ sourceId: idOf(model.time), fieldId: firstPartitionFieldId, name: `${model.time}_day`, transform: Transform.day }])],
    sortOrder: SortOrder.ascending(sortOrderId, [model.time, ...model.key.filter((name) => name !== model.time)].map(idOf)),
    properties: {
      comment: model.description,
      "write.format.default": "parquet",
      "write.parquet.compression-codec": "zstd",
      "write.metadata.delete-after-commit.enabled": "true"
    }
  })
  if (shape(currentSchema(table.metadata)) !== shape(schema)) {
    return yield* new ModelInvalid({
      source: model.name,
      reason: `the table gold.${model.name} has other columns than it. Give the model another name, or drop the table first`
    })
  }
  return table
})
