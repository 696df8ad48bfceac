/**
 * Expressions of models as Spark is told them, so that they answer what DuckDB answers to the last digit. Spark means other things by the same words: it cuts
 * numbers off where DuckDB rounds them, divides decimals as decimals, sorts NULL first, and knows backslashes in texts. What the two cannot be brought to
 * agree on is refused, with what to write instead. Spark runs with ANSI rules, UTC, and exact scales of decimals (`SparkJob`).
 */
import { Either } from "effect"
import type { TypedSelect } from "./ExpressionTypes.ts"
import { calledBy, isNode, list, type Node } from "./SqlTree.ts"

/** SQL for Spark, or why there is none that is the same. */
export type Told = Either.Either<string, string>

/** What types have in common, as far as two engines are concerned. */
type Kind = "null" | "text" | "whole" | "huge" | "decimal" | "double" | "timestamp" | "date" | "boolean"

const kinds: Readonly<Record<string, Kind>> = {
  VARCHAR: "text",
  TINYINT: "whole",
  SMALLINT: "whole",
  INTEGER: "whole",
  BIGINT: "whole",
  HUGEINT: "huge",
  DOUBLE: "double",
  TIMESTAMP: "timestamp",
  DATE: "date",
  BOOLEAN: "boolean"
}

const numbers: ReadonlySet<Kind> = new Set(["whole", "huge", "decimal", "double"])

const refuse = (reason: string): Told => Either.left(reason)

export const identifier = (name: string): string => `\`${name.replaceAll("`", "``")}\``

/** Spark reads backslashes in texts. */
export const text = (value: string): string => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`

/** One token, whatever stands around it. */
const signed = (number: string): string => (number.startsWith("-") ? `(${number})` : number)

const wholeAt = (sql: string, location: number, rounded: number): Told => {
  const [written] = /^-?\d+/.exec(Buffer.from(sql).subarray(location).toString()) ?? []
  const isFound = written !== undefined && Number(written) === rounded
  return isFound ? Either.right(signed(written)) : refuse(`it has the number ${rounded}; write it with all of its digits`)
}

/** Tells what a constant of the statement `sql` is. JavaScript rounds large whole numbers, which are looked up where they stand. */
const constant = (node: Node, sql: string): Told => {
  const value = isNode(node["value"]) ? node["value"] : {}
  if (value["is_null"] === true) return Either.right("NULL")
  const type = isNode(value["type"]) ? value["type"] : {}
  const given = value["value"]
  switch (type["id"]) {
    case "VARCHAR":
      return Either.right(text(String(given)))
    case "BOOLEAN":
      return Either.right(given === true ? "TRUE" : "FALSE")
    case "DOUBLE":
      if (typeof given !== "number" || !Number.isFinite(given)) return refuse("it has a number that is too large for a double")
      return Either.right(signed(`${Object.is(given, -0) ? "-0" : given.toExponential().toUpperCase()}D`))
    case "DECIMAL": {
      const scale = isNode(type["type_info"]) ? Number(type["type_info"]["scale"]) : 0
      if (!Number.isSafeInteger(given)) return refuse("it has a number of more than 15 digits with a fraction; write it as a text and cast that")
      const digits = String(Math.abs(Number(given))).padStart(scale + 1, "0")
      const fraction = scale === 0 ? "" : `.${digits.slice(-scale)}`
      return Either.right(signed(`${Number(given) < 0 ? "-" : ""}${digits.slice(0, digits.length - scale)}${fraction}BD`))
    }
    case "TINYINT":
    case "SMALLINT":
    case "INTEGER":
    case "BIGINT":
      if (Number.isSafeInteger(given)) return Either.right(signed(String(given)))
      return wholeAt(sql, Number(node["query_location"]), Number(given))
    default:
      return refuse(`it has a value of the type ${String(type["id"])}`)
  }
}

const castTypes: Readonly<Record<string, string>> = {
  VARCHAR: "STRING",
  TINYINT: "TINYINT",
  SMALLINT: "SMALLINT",
  INTEGER: "INT",
  BIGINT: "BIGINT",
  HUGEINT: "DECIMAL(38, 0)",
  DOUBLE: "DOUBLE",
  DATE: "DATE",
  TIMESTAMP: "TIMESTAMP_NTZ",
  BOOLEAN: "BOOLEAN"
}

/** A double rounded down, as a double. Spark's own `floor` answers a BIGINT, which large ones do not fit. */
const floored = (x: string): string => `(rint(${x}) - CAST(rint(${x}) > ${x} AS DOUBLE))`

const two53 = "9.007199254740992E15D"
const two63 = "9.223372036854775808E18D"

/**
 * A double as a decimal, as DuckDB makes it: times ten to the scale, as a double, rounded half away from zero. Spark would take the decimal of the double's
 * shortest text. From 2^53 on the product is whole already, and is taken over in two parts that a BIGINT holds.
 */
const decimalOf = (x: string, precision: number, scale: number): string => {
  const w = `(${x} * 1E${scale}D)`
  const unit = scale === 0 ? "1BD" : `0.${"0".repeat(scale - 1)}1BD`
  const high = floored(`(${w} / ${two63})`)
  const whole = (part: string) => `CAST(CAST(${part} AS BIGINT) AS DECIMAL(20, 0))`
  const large = `(${whole(high)} * 9223372036854775808BD + ${whole(`(${w} - ${high} * ${two63})`)}) * ${unit}`
  return `CAST(CASE WHEN abs(${w}) < ${two53} THEN ${whole(`round(${w})`)} * ${unit} ELSE ${large} END AS DECIMAL(${precision}, ${scale}))`
}

const comparisons: Readonly<Record<string, string>> = {
  COMPARE_EQUAL: "=",
  COMPARE_NOTEQUAL: "<>",
  COMPARE_LESSTHAN: "<",
  COMPARE_GREATERTHAN: ">",
  COMPARE_LESSTHANOREQUALTO: "<=",
  COMPARE_GREATERTHANOREQUALTO: ">=",
  COMPARE_DISTINCT_FROM: "IS DISTINCT FROM",
  COMPARE_NOT_DISTINCT_FROM: "IS NOT DISTINCT FROM"
}

const dateForm = /^\d{4}-\d\d-\d\d$/
const timestampForm = /^\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?$/

const units = new Set(["second", "minute", "hour", "day", "week", "month", "quarter", "year"])

const constantText = (node: Node | undefined): string | undefined =>
  node?.["class"] === "CONSTANT" && isNode(node["value"]) && typeof node["value"]["value"] === "string" ? node["value"]["value"] : undefined

const constantNumber = (node: Node | undefined): number | undefined =>
  node?.["class"] === "CONSTANT" && isNode(node["value"]) && typeof node["value"]["value"] === "number" ? node["value"]["value"] : undefined

/** Tells the expressions of one SELECT of the statement `sql`. */
export const teller = ({ typeOf }: Pick<TypedSelect, "typeOf">, sql: string) => {
  const nameOfType = (node: Node): string => {
    const value = node["class"] === "CONSTANT" && isNode(node["value"]) && isNode(node["value"]["type"]) ? node["value"]["type"] : undefined
    return value === undefined ? typeOf(node) ?? "unknown" : String(value["id"])
  }
  const kindOf = (node: Node): Kind | undefined => {
    if (node["class"] === "CONSTANT" && isNode(node["value"]) && node["value"]["is_null"] === true) return "null"
    const name = nameOfType(node)
    return name.startsWith("DECIMAL") ? "decimal" : kinds[name]
  }

  /** Why values of these cannot stand beside each other alike. */
  const mixFault = (nodes: ReadonlyArray<Node>, what: string): string | undefined => {
    const found = nodes.map((node) => ({ node, kind: kindOf(node) }))
    const other = found.find(({ kind }) => kind === undefined)
    if (other !== undefined) return `${what} has a value of the type ${nameOfType(other.node)}; cast it to one that models have`
    const present = new Set(found.flatMap(({ kind }) => (kind === "null" ? [] : [kind!])))
    const exact = found.some(({ kind, node }) => (kind === "decimal" || kind === "huge") && node["class"] !== "CONSTANT")
    if (present.has("double") && exact) return `${what} mixes a double with a DECIMAL; cast one of them`
    if (present.size > 1 && ![...present].every((kind) => numbers.has(kind))) return `${what} mixes ${[...present].join(" with ")}; cast them to one type`
    const decimals = nodes.flatMap((node) => /^DECIMAL\((\d+),(\d+)\)$/.exec(nameOfType(node))?.slice(1).map(Number) as [number, number] ?? [])
    const sizes = decimals.flatMap((_, index) => (index % 2 === 0 ? [{ whole: decimals[index]! - decimals[index + 1]!, scale: decimals[index + 1]! }] : []))
    const widest = Math.max(0, ...sizes.map(({ whole }) => whole)) + Math.max(0, ...sizes.map(({ scale }) => scale))
    return widest > 38 ? `${what} mixes DECIMALs that have no common type; cast them to one` : undefined
  }

  const all = (nodes: ReadonlyArray<Node>): Either.Either<ReadonlyArray<string>, string> => Either.all(nodes.map(tell))
  const joined = (nodes: ReadonlyArray<Node>, of: (parts: ReadonlyArray<string>) => string): Told => Either.map(all(nodes), of)
  const alike = (nodes: ReadonlyArray<Node>, what: string, of: (parts: ReadonlyArray<string>) => string): Told => {
    const fault = mixFault(nodes, what)
    return fault === undefined ? joined(nodes, of) : refuse(fault)
  }

  const cast = (node: Node): Told => {
    if (node["try_cast"] === true) return refuse("it calls TRY_CAST, which engines take otherwise; write a CASE")
    const child = isNode(node["child"]) ? node["child"] : {}
    const type = isNode(node["cast_type"]) ? node["cast_type"] : {}
    const target = String(type["id"])
    const given = constantText(child)
    if (given !== undefined && target === "BOOLEAN" && /^[tf]$/.test(given)) return Either.right(given === "t" ? "TRUE" : "FALSE")
    if (given !== undefined && target === "DATE" && dateForm.test(given)) return Either.right(`DATE '${given}'`)
    if (given !== undefined && target === "TIMESTAMP" && timestampForm.test(given)) return Either.right(`TIMESTAMP_NTZ '${given}'`)
    return Either.flatMap(tell(child), (x) => castOf(child, x, target, type))
  }

  const castOf = (child: Node, x: string, target: string, type: Node): Told => {
    const size = isNode(type["type_info"]) ? type["type_info"] : {}
    const [precision, scale] = [Number(size["width"] ?? 18), Number(size["scale"] ?? 3)]
    const name = target === "DECIMAL" ? `DECIMAL(${precision}, ${scale})` : castTypes[target]
    const kind = kindOf(child)
    const to = target === "DECIMAL" ? "decimal" : kinds[target]
    if (name === undefined || to === undefined || kind === undefined) return refuse(`it casts ${nameOfType(child)} to ${target}`)
    const plain = Either.right(`CAST(${x} AS ${name})`)
    const isOfNumber = child["class"] === "CAST" && isNode(child["child"]) && numbers.has(kindOf(child["child"]) ?? "null")
    const other = `it casts ${nameOfType(child)} to ${target}, which engines do each in its way`
    if (kind === "null" || kind === to && kind !== "decimal") return plain
    switch (to) {
      case "text":
        return kind === "whole" || kind === "huge" || kind === "decimal" || kind === "boolean" ? plain : refuse(`${other}; leave it as it is`)
      case "double":
        if (kind === "text") return isOfNumber ? plain : refuse(`${other}; only of a number's text: CAST(CAST(x AS STRING) AS DOUBLE)`)
        return kind === "whole" ? plain : refuse(`${other}; write CAST(CAST(x AS STRING) AS DOUBLE)`)
      case "decimal":
        if (kind === "double") return Either.right(decimalOf(x, precision, scale))
        return kind === "whole" || kind === "huge" || kind === "decimal" || kind === "text" && isOfNumber ? plain : refuse(other)
      case "whole":
      case "huge":
        if (kind === "double" && to === "whole") return Either.right(`CAST(rint(${x}) AS ${name})`)
        if (kind === "decimal") return Either.right(`CAST(round(${x}, 0) AS ${name})`)
        return kind === "whole" || kind === "huge" || kind === "boolean" ? plain : refuse(other)
      case "boolean":
        return kind === "whole" ? plain : refuse(`${other}; compare it`)
      default:
        return (to === "date" && kind === "timestamp") || (to === "timestamp" && kind === "date") ? plain : refuse(other)
    }
  }

  const isNotZero = (node: Node | undefined): boolean =>
    (constantNumber(node) ?? 0) !== 0 || (node !== undefined && calledBy(node) === "nullif" && constantNumber(list(node["children"])[1]) === 0)

  const divided = (operator: string, operands: ReadonlyArray<Node>): Told => {
    const [left, right] = operands
    if (!isNotZero(right)) return refuse(`it divides by what may be 0, which engines answer each in its way; write ${operator} nullif(…, 0)`)
    const isConstant = (node: Node) => node["class"] === "CONSTANT"
    const wrong = operands.find((node) => !isConstant(node) && kindOf(node) !== "whole" && kindOf(node) !== "double")
    if (wrong !== undefined || isConstant(left!) && isConstant(right!)) {
      return refuse(`it divides a ${wrong === undefined ? "constant by a constant" : nameOfType(wrong)} by ${operator}; cast it to DOUBLE or BIGINT`)
    }
    return joined(operands, ([a, b]) => (operator === "/" ? `(CAST(${a} AS DOUBLE) / CAST(${b} AS DOUBLE))` : `(${a} % ${b})`))
  }

  const arithmetic = (operator: string, operands: ReadonlyArray<Node>): Told => {
    const wrong = operands.find((node) => kindOf(node) !== "null" && !numbers.has(kindOf(node) ?? "null"))
    if (wrong !== undefined) return refuse(`it reckons ${operator} with a ${nameOfType(wrong)}; models reckon with numbers (event_us is the time as one)`)
    if (operands.length === 1) return joined(operands, ([a]) => `(- ${a})`)
    return alike(operands, operator, ([a, b]) => `(${a} ${operator} ${b})`)
  }

  const texts = (name: string, operands: ReadonlyArray<Node>): string | undefined => {
    const wrong = operands.find((node) => kindOf(node) !== "text" && kindOf(node) !== "null")
    return wrong === undefined ? undefined : `it calls ${name} of a ${nameOfType(wrong)}; cast it to STRING`
  }

  const function_ = (node: Node): Told => {
    const name = calledBy(node)!
    const operands = list(node["children"])
    const called = (of = name): Told => joined(operands, (parts) => `${of}(${parts.join(", ")})`)
    switch (name) {
      case "+":
      case "-":
      case "*":
        return arithmetic(name, operands)
      case "/":
        return divided(name, operands)
      case "%":
      case "mod":
        return divided("%", operands)
      case "count_star":
        return Either.right("count(*)")
      case "count":
        if (operands.length === 1) return joined(operands, ([a]) => `count(${node["distinct"] === true ? "DISTINCT " : ""}${a})`)
        return operands.length === 0 ? Either.right("count(*)") : refuse("it counts several columns at once; count one")
      case "max":
      case "min":
        return operands.length === 1 ? alike(operands, name, ([a]) => `${name}(${a})`) : refuse(`it calls ${name} of several values`)
      case "sum": {
        const distinct = node["distinct"] === true ? "DISTINCT " : ""
        const isWhole = kindOf(operands[0]!) === "whole" || kindOf(operands[0]!) === "boolean"
        return joined(operands, ([a]) => `sum(${distinct}${isWhole ? `CAST(${a} AS DECIMAL(38, 0))` : a})`)
      }
      case "abs":
        return called()
      case "sign":
        return joined(operands, ([a]) => `CAST(sign(${a}) AS TINYINT)`)
      case "floor":
      case "ceil":
        if (kindOf(operands[0]!) !== "double") return refuse(`it calls ${name} of a ${nameOfType(operands[0]!)}; models call it of a DOUBLE`)
        return joined(operands, ([a]) => (name === "floor" ? floored(a!) : `(- ${floored(`(- ${a})`)})`))
      case "least":
      case "greatest":
        return operands.length < 2 ? refuse(`it calls ${name} of one value`) : alike(operands, name, (parts) => `${name}(${parts.join(", ")})`)
      case "nullif":
        return alike(operands, name, ([a, b]) => `nullif(${a}, ${b})`)
      case "concat": {
        const fault = texts(name, operands)
        return fault !== undefined ? refuse(fault) : joined(operands, (parts) => `concat(${parts.map((part) => `coalesce(${part}, '')`).join(", ")})`)
      }
      case "length": {
        const fault = texts(name, operands)
        return fault !== undefined ? refuse(fault) : joined(operands, ([a]) => `CAST(length(${a}) AS BIGINT)`)
      }
      case "substring": {
        const fault = texts(name, operands.slice(0, 1))
        const [start, length] = operands.slice(1).map(constantNumber)
        const isSure = start !== undefined && start >= 1 && (operands.length === 2 || (length !== undefined && length >= 0))
        return fault !== undefined ? refuse(fault) : isSure ? called() : refuse("it calls substring from what is no constant of 1 and more")
      }
      case "date_trunc": {
        const unit = constantText(operands[0])?.toLowerCase()
        if (unit === undefined || !units.has(unit)) {
          return refuse(`it calls date_trunc to ${unit ?? "what is no constant"}; models have ${[...units].join(", ")}`)
        }
        if (kindOf(operands[1]!) !== "timestamp") return refuse(`it calls date_trunc of a ${nameOfType(operands[1]!)}; cast it to TIMESTAMP`)
        return Either.map(tell(operands[1]!), (time) => `CAST(date_trunc('${unit}', ${time}) AS TIMESTAMP_NTZ)`)
      }
      default:
        return refuse(`it calls ${name}, which Spark has not alike`)
    }
  }

  const filtered = (node: Node, told: Told): Told => {
    const filter = node["filter"] ?? node["filter_expr"]
    return isNode(filter) ? Either.zipWith(told, tell(filter), (call, condition) => `${call} FILTER (WHERE ${condition})`) : told
  }

  const order = (one: Node): Told => {
    const isDescending = one["type"] === "DESCENDING"
    const nulls = one["null_order"] === "NULLS FIRST" ? "NULLS FIRST" : "NULLS LAST"
    if (!isNode(one["expression"])) return refuse("it orders by nothing")
    return Either.map(tell(one["expression"]), (x) => `${x} ${isDescending ? "DESC" : "ASC"} ${nulls}`)
  }

  const bound = (node: Node, which: "start" | "end"): Told => {
    const name = String(node[which])
    const at = node[`${which}_expr`]
    if (name.startsWith("UNBOUNDED_")) return Either.right(name.replace("_", " "))
    if (name.startsWith("CURRENT_ROW")) return Either.right("CURRENT ROW")
    const [, direction] = /^EXPR_(PRECEDING|FOLLOWING)_/.exec(name) ?? []
    return direction === undefined || !isNode(at) ? refuse("it has a frame that Spark has not") : Either.map(tell(at), (x) => `${x} ${direction}`)
  }

  const frame = (node: Node): Told => {
    const [start, end] = [String(node["start"]), String(node["end"])]
    if (start === "UNBOUNDED_PRECEDING" && end === "CURRENT_ROW_RANGE") return Either.right("")
    if (`${start} ${end}`.includes("GROUPS")) return refuse("it has a frame of GROUPS, which Spark has not; write ROWS or RANGE")
    const kind = `${start} ${end}`.includes("_ROWS") ? "ROWS" : "RANGE"
    return Either.zipWith(bound(node, "start"), bound(node, "end"), (from, to) => ` ${kind} BETWEEN ${from} AND ${to}`)
  }

  const places = new Set(["row_number", "rank", "dense_rank"])

  const window = (node: Node): Told => {
    const name = calledBy(node)!
    if (node["exclude_clause"] !== undefined && node["exclude_clause"] !== "NO_OTHER") return refuse("it has a frame with EXCLUDE, which Spark has not")
    if (node["distinct"] === true) return refuse("it has DISTINCT in a window, which Spark has not")
    const more = [node["offset_expr"], node["default_expr"]].filter(isNode)
    if (isNode(node["default_expr"]) && !isNode(node["offset_expr"])) return refuse(`it calls ${name} without an offset`)
    const isShifted = name === "lag" || name === "lead"
    const operands = [...list(node["children"]), ...more]
    const nulls = node["ignore_nulls"] === true ? " IGNORE NULLS" : ""
    if (nulls !== "" && !isShifted) return refuse(`it has IGNORE NULLS at ${name}`)
    const call = places.has(name)
      ? Either.right(`${name}()`)
      : isShifted
      ? alike([operands[0]!, ...more.slice(1)], name, () => "").pipe(Either.flatMap(() => joined(operands, (parts) => `${name}(${parts.join(", ")})`)))
      : function_(node)
    return Either.gen(function*() {
      const partitions = yield* all(list(node["partitions"]))
      const orders = yield* Either.all(list(node["orders"]).map(order))
      const by = partitions.length === 0 ? "" : `PARTITION BY ${partitions.join(", ")} `
      const over = `OVER (${by}${orders.length === 0 ? "" : `ORDER BY ${orders.join(", ")}`}${yield* frame(node)})`
      const whole = `${yield* filtered(node, call)}${nulls} ${over}`
      return places.has(name) ? `CAST(${whole} AS BIGINT)` : whole
    })
  }

  const operator = (node: Node): Told => {
    const operands = list(node["children"])
    switch (node["type"]) {
      case "OPERATOR_NOT":
        return joined(operands, ([a]) => `(NOT ${a})`)
      case "OPERATOR_IS_NULL":
        return joined(operands, ([a]) => `(${a} IS NULL)`)
      case "OPERATOR_IS_NOT_NULL":
        return joined(operands, ([a]) => `(${a} IS NOT NULL)`)
      case "OPERATOR_COALESCE":
        return alike(operands, "coalesce", (parts) => `coalesce(${parts.join(", ")})`)
      case "OPERATOR_NULLIF":
        return alike(operands, "nullif", ([a, b]) => `nullif(${a}, ${b})`)
      case "COMPARE_IN":
      case "COMPARE_NOT_IN":
        return alike(operands, "IN", ([a, ...rest]) => `(${a} ${node["type"] === "COMPARE_IN" ? "IN" : "NOT IN"} (${rest.join(", ")}))`)
      default:
        return refuse(`it has ${String(node["type"])}, which Spark has not alike`)
    }
  }

  const case_ = (node: Node): Told => {
    const checks = list(node["case_checks"])
    const conditions = checks.flatMap((check) => (isNode(check["when_expr"]) ? [check["when_expr"]] : []))
    const results = [...checks.map((check) => check["then_expr"]), node["else_expr"]].filter(isNode)
    return Either.flatMap(all(conditions), (whens) =>
      alike(results, "CASE", (values) => `CASE ${whens.map((when, index) => `WHEN ${when} THEN ${values[index]}`).join(" ")} ELSE ${values.at(-1)} END`))
  }

  const sides = (node: Node, ...names: ReadonlyArray<string>): ReadonlyArray<Node> => names.map((name) => node[name]).filter(isNode)

  const tell = (node: Node): Told => {
    switch (node["class"]) {
      case "COLUMN_REF":
        return Either.right((Array.isArray(node["column_names"]) ? node["column_names"] : []).slice(-2).map((name) => identifier(String(name))).join("."))
      case "CONSTANT":
        return constant(node, sql)
      case "CAST":
        return cast(node)
      case "CASE":
        return case_(node)
      case "BETWEEN":
        return alike(sides(node, "input", "lower", "upper"), "BETWEEN", ([a, b, c]) => `(${a} BETWEEN ${b} AND ${c})`)
      case "COMPARISON": {
        const sign = comparisons[String(node["type"])]
        if (sign === undefined) return refuse(`it compares by ${String(node["type"])}`)
        return alike(sides(node, "left", "right"), sign, ([a, b]) => `(${a} ${sign} ${b})`)
      }
      case "CONJUNCTION":
        return joined(list(node["children"]), (parts) => `(${parts.join(node["type"] === "CONJUNCTION_AND" ? " AND " : " OR ")})`)
      case "OPERATOR":
        return operator(node)
      case "FUNCTION":
        return filtered(node, function_(node))
      case "WINDOW":
        return window(node)
      default:
        return refuse(`it has an expression of the kind ${String(node["class"])}, which Spark has not alike`)
    }
  }
  return tell
}
