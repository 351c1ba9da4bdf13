// A request as a command for a POSIX shell.

/** One word of the shell, whatever it holds. */
function word(text) {
  return /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** A file for curl's --form, in whose names a comma or a semicolon would mean something. */
function file(name) {
  return `image=@"${name.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/**
 * The call as it can be pasted where the photo lies.
 *
 * The key is left to the shell's environment: a clipboard and a history are no place for it.
 */
export function curl(url, filename, fields, hasKey) {
  const lines = [`curl -sS ${word(url)}`];
  if (hasKey) lines.push('-H "Authorization: Bearer $XMORE_API_KEY"');
  lines.push(`-F ${word(file(filename))}`);
  for (const [name, value] of Object.entries(fields)) {
    // --form would read a value that begins with @ or < from a file.
    lines.push(`--form-string ${word(`${name}=${value}`)}`);
  }
  return lines.join(" \\\n  ");
}
