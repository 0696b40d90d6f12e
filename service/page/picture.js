// Paints an input as a picture. It knows canvases, not models.

/** Paints an input [H][W] onto a canvas, one pixel a cell; CSS enlarges it. `range` is [black, white]. */
export function paint(canvas, input, [black, white]) {
  canvas.width = input[0].length;
  canvas.height = input.length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  input.flat().forEach((value, index) => {
    const grey = (255 * (value - black)) / (white - black);
    image.data.set([grey, grey, grey, 255], 4 * index); // clamped by the array's type
  });
  context.putImageData(image, 0, 0);
}

/** Paints frames [T][F] of filter banks as a spectrogram: time from left to right, low tones below, what is loud bright. */
export function paintSound(canvas, frames) {
  const last = frames.findLastIndex((frame) => frame.some((value) => value !== 0));
  const there = frames.slice(0, last + 1 || 1);
  const rows = there[0].map((_, filter) => there.map((frame) => frame[filter])).reverse();
  const values = rows.flat();
  const least = values.reduce((a, b) => Math.min(a, b));
  const most = values.reduce((a, b) => Math.max(a, b));
  paint(canvas, rows, [least, most > least ? most : least + 1]);
}

/**
 * The values of an empty and of a full cell, from a few inputs: light ink on dark paper, unless the data are mostly
 * bright, because the greater part of a drawing is paper.
 */
export function paperAndInk(inputs, [black, white]) {
  const values = inputs.flat(2);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const bright = (mean - black) / (white - black) > 2 / 3;
  return bright ? { paper: white, ink: black } : { paper: black, ink: white };
}
