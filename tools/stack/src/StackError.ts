/** Why the stack, or a part of it, does not run. Every message names what to do or where to look. */
import { Schema } from "effect"

/** A program that has to be installed is not on the PATH, or is too old. */
export class ProgramMissing extends Schema.TaggedError<ProgramMissing>()("ProgramMissing", {
  program: Schema.String,
  reason: Schema.String,
  neededFor: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `${this.program} ${this.reason}; it is needed for ${this.neededFor}: ${this.remedy}`
  }
}

/** A server's programs could not be fetched or built. `output` is the end of what the builder printed. */
export class BuildFailed extends Schema.TaggedError<BuildFailed>()("BuildFailed", { what: Schema.String, output: Schema.String }) {
  override get message() {
    return `${this.what} could not be made:\n${this.output}`
  }
}

/** A server did not come up, or went away. `log` holds its last lines. */
export class StartFailed extends Schema.TaggedError<StartFailed>()("StartFailed", {
  server: Schema.String,
  reason: Schema.String,
  log: Schema.String
}) {
  override get message() {
    return `${this.server} did not start: ${this.reason}${this.log === "" ? "" : `\n${this.log}`}`
  }
}

/** A server of the stack was asked for that was never started here. */
export class NotUp extends Schema.TaggedError<NotUp>()("NotUp", { server: Schema.String, dir: Schema.String }) {
  override get message() {
    return `no ${this.server} in the stack at ${this.dir}; start it with: npm run stack -- up --dir ${this.dir}`
  }
}

/** A server does not answer. */
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", { server: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.server} does not answer: ${this.reason}`
  }
}

/** Files of the stack's folder or of the cache cannot be read or written, or settings contradict each other. */
export class StackUnusable extends Schema.TaggedError<StackUnusable>()("StackUnusable", { path: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.path}: ${this.reason}`
  }
}

export type StackError = ProgramMissing | BuildFailed | StartFailed | NotUp | NotReady | StackUnusable
