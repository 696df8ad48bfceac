/**
 * docs/CONFIG.md, made from the settings themselves: each Config is walked for its key, type, default and description.
 *
 * Effect keeps a Config's parts behind tags that are not in its types; this tool reads them, and its test fails where they change.
 */
import { Duration, type Config, type LogLevel, Option } from "effect"

interface Node {
  readonly _tag: string
  readonly [part: string]: unknown
}

export interface Setting {
  readonly key: string
  readonly type: string
  readonly byDefault: string
  readonly description: string
}

const show = (value: unknown): string => {
  if (Duration.isDuration(value)) return Duration.format(value)
  if (Option.isOption(value)) return Option.isNone(value) ? "none" : show(value.value)
  if (typeof value === "object" && value !== null && "label" in value) return (value as LogLevel.LogLevel).label.toLowerCase()
  return String(value)
}

interface Found {
  readonly type?: string
  readonly byDefault?: string
  readonly description?: string
}

const forced = (node: Node): Node => (node._tag === "Lazy" ? (node["config"] as () => Node)() : node)

const walk = (node: Node, path: ReadonlyArray<string>, outer: Found): ReadonlyArray<Setting> => {
  const inner = (part: string) => node[part] as Node
  switch (node._tag) {
    case "Described":
      return walk(inner("config"), path, { ...outer, description: outer.description ?? String(node["description"]) })
    case "Fallback": {
      const other = forced(inner("second"))
      const byDefault = other._tag === "Constant" ? { byDefault: show(other["value"]) } : {}
      return walk(inner("first"), path, { ...byDefault, ...outer })
    }
    case "MapOrFail":
    case "Redacted":
      return walk(inner("original"), path, outer)
    case "Nested":
      return walk(inner("config"), [...path, String(node["name"])], outer)
    case "ZipWith":
      return [...walk(inner("left"), path, {}), ...walk(inner("right"), path, {})]
    case "Lazy":
      return walk(forced(node), path, outer)
    case "Primitive":
      return [{
        key: path.join("_"),
        type: String(node["description"] ?? "").replace(/^an? (.*) property$/, "$1"),
        byDefault: outer.byDefault ?? "none",
        description: outer.description ?? ""
      }]
    default:
      return []
  }
}

export const settingsOf = (config: Config.Config<unknown>): ReadonlyArray<Setting> => walk(config as unknown as Node, [], {})

export interface Section {
  readonly title: string
  readonly text: string
  readonly configs: ReadonlyArray<Config.Config<unknown>>
}

const cell = (text: string) => text.replaceAll("|", "\\|")

const renderSection = ({ configs, text, title }: Section) =>
  [
    `## ${title}`,
    "",
    text,
    "",
    "| key | value | default | what it does |",
    "|---|---|---|---|",
    ...configs.flatMap(settingsOf).map((setting) =>
      `| \`${setting.key}\` | ${cell(setting.type)} | ${setting.byDefault} | ${cell(setting.description)} |`)
  ].join("\n")

export const render = (sections: ReadonlyArray<Section>): string =>
  [
    "# Configuration",
    "",
    "Made from the code by `npm run docs`; do not edit. Settings are environment variables; options of the command line come before them. A value that does not",
    "fit stops the process before it does anything, and the message names the key.",
    "",
    sections.map(renderSection).join("\n\n"),
    ""
  ].join("\n")
