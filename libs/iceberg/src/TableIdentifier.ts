/** The name of a table in the catalog. A namespace of several levels is written with dots. */
import { Order } from "effect"

export interface TableIdentifier {
  readonly namespace: string
  readonly name: string
}

export const make = (namespace: string, name: string): TableIdentifier => ({ namespace, name })

/** `bronze.telemetry_raw` */
export const render = (table: TableIdentifier): string => `${table.namespace}.${table.name}`

/** The last dot parts namespace and name. */
export const parse = (text: string): TableIdentifier => {
  const dot = text.lastIndexOf(".")
  return { namespace: text.slice(0, Math.max(dot, 0)), name: text.slice(dot + 1) }
}

/** Where the table's objects lie below the warehouse: `bronze/telemetry_raw`. */
export const prefix = (table: TableIdentifier): string => `${table.namespace.replaceAll(".", "/")}/${table.name}`

/** The order in which a commit over several tables takes their locks, so that two commits never wait for each other. */
export const order: Order.Order<TableIdentifier> = Order.mapInput(Order.string, render)
