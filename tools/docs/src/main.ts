/** `npm run docs`: writes docs/CONFIG.md. */
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { render } from "./ConfigDoc.ts"
import { sections } from "./Sections.ts"

writeFileSync(fileURLToPath(new URL("../docs/CONFIG.md", import.meta.url)), render(sections))
