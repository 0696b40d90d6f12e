// Examples in a CSV file: numbers, and a column of labels if there is one, as the command line reads them. It knows the
// format and says what is wrong with a file; it knows no document and no models.

const LABEL = "label";
const MOST = 10_000;
const CELL = /(?:"((?:[^"]|"")*)"|((?!")[^,\r\n]*))(,|\r\n|\r|\n|$)/y;
const NUMBER = /^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i;

/** What is wrong with a file, in words for the person at the page. */
export class FileError extends Error {}

/** `{ inputs, labels }` of the bytes of a file: rows of numbers, and a text for each or null. Throws a FileError. */
export function readCsv(bytes) {
  const [header, ...rows] = rowsOf(textOf(bytes));
  if (!rows.length) throw new FileError("holds no examples, expected a header and a row for each");
  if (rows.length > MOST) throw new FileError(`holds ${count(rows.length)} rows, expected at most ${count(MOST)}`);
  const at = header.indexOf(LABEL);
  const inputs = rows.map((row, index) => numbersOf(row, index + 1, header.length, at));
  return { inputs, labels: at < 0 ? null : rows.map((row) => row[at]) };
}

function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes); // which leaves a byte order mark out
  } catch {
    throw new FileError("is no text in UTF-8, expected a CSV file");
  }
}

/** The cells of each line that is not empty. */
function rowsOf(text) {
  const rows = [];
  let row = [];
  for (let place = 0; place < text.length || row.length; ) {
    CELL.lastIndex = place;
    const found = CELL.exec(text);
    if (!found) throw new FileError(`row ${rows.length} has a quotation mark that nothing ends, or text behind one`);
    const [all, quoted, plain, end] = found;
    row.push(quoted?.replaceAll('""', '"') ?? plain);
    place += all.length;
    if (end === ",") continue;
    if (row.length > 1 || row[0] !== "" || quoted !== undefined) rows.push(row);
    row = [];
  }
  return rows.length ? rows : [[]];
}

function numbersOf(row, line, width, at) {
  if (row.length !== width) throw new FileError(`row ${line} has ${row.length} values, the header has ${width}`);
  return row.filter((_, column) => column !== at).map((cell) => numberOf(cell, line));
}

function numberOf(cell, line) {
  if (NUMBER.test(cell)) return Number(cell);
  throw new FileError(`row ${line} holds “${cell.slice(0, 40)}”, expected numbers in every column but ${LABEL}`);
}

const count = (value) => value.toLocaleString("en");
