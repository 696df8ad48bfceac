/** A caller's requirement or an action's own check failed; kept apart from errors of the commit, whatever it looks like. */
export class Refused<out E> {
  readonly _tag = "Refused"
  constructor(readonly error: E) {}
}
