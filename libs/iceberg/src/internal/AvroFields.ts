/**
 * Finds an Iceberg field in another writer's Avro schema by its field id: names changed between versions of the format, ids never did.
 */

type Names = ReadonlyMap<number, string>

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The schema with every field that has one of these ids renamed. Decoding is by order, so that renaming is safe. */
export const renameById = (schema: unknown, names: Names): unknown => {
  if (Array.isArray(schema)) return schema.map((branch) => renameById(branch, names))
  if (!isObject(schema)) return schema
  const out: Record<string, unknown> = { ...schema }
  if (Array.isArray(schema["fields"])) {
    out["fields"] = schema["fields"].map((field: unknown) => {
      if (!isObject(field)) return field
      const name = typeof field["field-id"] === "number" ? names.get(field["field-id"]) : undefined
      // A default is of no use to a reader by order, and may be one that the library refuses.
      const { default: _, ...rest } = field
      return { ...rest, ...(name === undefined ? {} : { name }), type: renameById(field["type"], names) }
    })
  }
  for (const inner of ["items", "values", "type"]) {
    if (isObject(schema[inner])) out[inner] = renameById(schema[inner], names)
  }
  return out
}

/** A record's schema with these of its fields only; `inner` does the same to what they hold. */
export const onlyFields = (schema: unknown, names: ReadonlyArray<string>, inner: (name: string, type: unknown) => unknown = (_, type) => type): unknown => {
  if (!isObject(schema) || !Array.isArray(schema["fields"])) return schema
  const fields = schema["fields"].filter((field: unknown) => isObject(field) && names.includes(field["name"] as string))
  return { ...schema, fields: fields.map((field: Record<string, unknown>) => ({ ...field, type: inner(field["name"] as string, field["type"]) })) }
}

/** A decoded record, whose fields have the names that {@link renameById} gave them. The readers below throw where a value is of another type. */
export type Raw = Readonly<Record<string, unknown>>

const wrong = (name: string, value: unknown): never => {
  throw new Error(`field ${name} has an unexpected value of type ${value === null ? "null" : typeof value}`)
}

export const optional = <A>(raw: Raw, name: string, read: (raw: Raw, name: string) => A): A | undefined =>
  raw[name] === null || raw[name] === undefined ? undefined : read(raw, name)

export const long = (raw: Raw, name: string): bigint => {
  const value = raw[name]
  if (typeof value === "bigint") return value
  return typeof value === "number" ? BigInt(value) : wrong(name, value)
}

export const int = (raw: Raw, name: string): number => {
  const value = raw[name]
  if (typeof value === "number") return value
  return typeof value === "bigint" ? Number(value) : wrong(name, value)
}

export const text = (raw: Raw, name: string): string => {
  const value = raw[name]
  return typeof value === "string" ? value : wrong(name, value)
}

export const bool = (raw: Raw, name: string): boolean => {
  const value = raw[name]
  return typeof value === "boolean" ? value : wrong(name, value)
}

export const bytes = (raw: Raw, name: string): Uint8Array => {
  const value = raw[name]
  return value instanceof Uint8Array ? value : wrong(name, value)
}

export const items = (raw: Raw, name: string): ReadonlyArray<unknown> => {
  const value = raw[name]
  return Array.isArray(value) ? value : wrong(name, value)
}

export const record = (raw: Raw, name: string): Raw => {
  const value = raw[name]
  return typeof value === "object" && value !== null ? (value as Raw) : wrong(name, value)
}

/** avsc takes Buffers for bytes, nothing else. */
export const asBuffer = (value: Uint8Array): Buffer => Buffer.from(value.buffer, value.byteOffset, value.byteLength)

/** The writer's JSON schema of an optional value. */
export const nullable = (type: unknown): unknown => ["null", type]
