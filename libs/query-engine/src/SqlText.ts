/** Values in the text of a statement. */

/** A string literal: quotes inside are doubled, everything else stands for itself. */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`
