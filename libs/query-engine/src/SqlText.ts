/** Values in the text of a statement. */

/** A string literal: quotes inside are doubled, everything else stands for itself. */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** A name of a column or table as an identifier: quotes inside are doubled. */
export const name = (text: string): string => `"${text.replaceAll("\"", "\"\"")}"`
