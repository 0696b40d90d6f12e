// From strokes to the picture that a model sees. It knows points and grids; it knows no document, no canvas, no service.
//
// A stroke is a list of [x, y] in cells of the model's grid of H x W cells. The drawing is fitted as the data were:
// its longer side fills the frame inside the margin. The pen is applied after that, so that a small drawing gets the
// same strokes as a large one, and the ink of each cell is averaged over its area.

const SUBCELLS = 4; // a side; UCI's 8x8 digits count the ink in 4x4 blocks of a bitmap just so
const MOST_ENLARGED = 4; // a dot stays a dot

/** Width of the pen in cells: scanned digits have strokes of about 1.6 cells at 8x8 and 2.7 at 28x28. */
export const penWidth = ([height, width]) => 0.96 + 0.055 * Math.min(height, width);

/**
 * The input [H][W] of a model, in raw units, for strokes; `shape` is [H, W], `margin` the share of a side that the data
 * leave free, `paper` and `ink` the values of an empty and of a full cell.
 */
export function render(strokes, { shape, margin, paper, ink }) {
  const pen = penWidth(shape);
  const covered = cover(fit(strokes, shape, margin, pen), shape, pen / 2);
  return covered.map((row) => row.map((share) => paper + share * (ink - paper)));
}

/** Strokes scaled and centred in the frame: by their mass where the data have a margin (as MNIST), else by their box. */
export function fit(strokes, [height, width], margin, pen) {
  const points = strokes.flat();
  const [left, right] = ends(points.map(([x]) => x));
  const [top, bottom] = ends(points.map(([, y]) => y));
  const free = 1 - 2 * margin;
  const scale = Math.min(
    (width * free - pen) / (right - left || Number.MIN_VALUE),
    (height * free - pen) / (bottom - top || Number.MIN_VALUE),
    MOST_ENLARGED,
  );
  const [middleX, middleY] = margin > 0 ? centreOfMass(strokes) : [(left + right) / 2, (top + bottom) / 2];
  return strokes.map((stroke) =>
    stroke.map(([x, y]) => [(x - middleX) * scale + width / 2, (y - middleY) * scale + height / 2]),
  );
}

/** The least and the greatest of some numbers; a spread argument would overflow the stack on long drawings. */
function ends(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** A line's mass is its length; a drawing of dots has the mean of its points. */
function centreOfMass(strokes) {
  let [sumX, sumY, mass] = [0, 0, 0];
  for (const [[x1, y1], [x2, y2]] of strokes.flatMap(segments)) {
    const length = Math.hypot(x2 - x1, y2 - y1) + 1e-9;
    sumX += (length * (x1 + x2)) / 2;
    sumY += (length * (y1 + y2)) / 2;
    mass += length;
  }
  return [sumX / mass, sumY / mass];
}

/** The segments of a stroke; a lone point is a segment of no length. */
const segments = (stroke) =>
  stroke.length === 1 ? [[stroke[0], stroke[0]]] : stroke.slice(1).map((point, index) => [stroke[index], point]);

/** The share of each cell [H][W] that lies within `radius` of a stroke. */
function cover(strokes, [height, width], radius) {
  const columns = width * SUBCELLS;
  const rows = height * SUBCELLS;
  const inked = new Uint8Array(rows * columns);
  for (const [start, end] of strokes.flatMap(segments)) {
    const [left, right] = reach(start[0], end[0], radius, columns);
    const [top, bottom] = reach(start[1], end[1], radius, rows);
    for (let row = top; row <= bottom; row += 1) {
      for (let column = left; column <= right; column += 1) {
        const point = [(column + 0.5) / SUBCELLS, (row + 0.5) / SUBCELLS];
        if (distance(point, start, end) <= radius) inked[row * columns + column] = 1;
      }
    }
  }
  const cells = Array.from({ length: height }, () => new Array(width).fill(0));
  inked.forEach((one, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    cells[Math.floor(row / SUBCELLS)][Math.floor(column / SUBCELLS)] += one / SUBCELLS ** 2;
  });
  return cells;
}

/** First and last subcell, along one axis, that a segment's ink can touch. */
const reach = (from, to, radius, count) => [
  Math.max(0, Math.floor((Math.min(from, to) - radius) * SUBCELLS)),
  Math.min(count - 1, Math.ceil((Math.max(from, to) + radius) * SUBCELLS)),
];

/** From a point to a segment. */
function distance([x, y], [x1, y1], [x2, y2]) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const along = ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1);
  const clamped = Math.min(1, Math.max(0, along));
  return Math.hypot(x - x1 - clamped * dx, y - y1 - clamped * dy);
}
