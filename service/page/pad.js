// The canvas that one draws on. It knows pointers and strokes, not what becomes of them.

import { paint } from "./picture.js";

const RESOLUTION = 560; // pixels of the longer side: sharp on a dense screen at the size shown
// Thinner than the pen that the models see, so that one can draw loops; the small picture beside shows their view.
const PEN = 0.075;

/** Calls `onInk(strokes)` while one draws; points are in cells of the model's grid. */
export class Pad {
  constructor(canvas, onInk) {
    this.canvas = canvas;
    this.onInk = onInk;
    this.strokes = [];
    this.drawing = null; // the id of the pointer that draws
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.end(event));
  }

  /** The grid of [H, W] cells, and whether one draws dark on light; what is drawn stays. */
  prepare(grid, darkOnLight) {
    this.grid = grid;
    this.colours = darkOnLight ? ["#fff", "#000"] : ["#000", "#fff"];
  }

  /** An empty pad. */
  clear() {
    this.strokes = [];
    this.drawing = null;
    this.redraw();
  }

  /** An input [H][W] in place of a drawing; the next stroke starts afresh. */
  show(input, range) {
    this.strokes = [];
    this.drawing = null;
    this.canvas.classList.add("cells");
    paint(this.canvas, input, range);
  }

  begin(event) {
    if (this.drawing !== null || event.button !== 0) return;
    event.preventDefault();
    this.drawing = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.point(event)]);
    this.changed();
  }

  move(event) {
    if (event.pointerId !== this.drawing) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.strokes.at(-1).push(this.point(each));
    this.changed();
  }

  end(event) {
    if (event.pointerId === this.drawing) this.drawing = null;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [height, width] = this.grid;
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }

  changed() {
    this.redraw();
    this.onInk(this.strokes);
  }

  redraw() {
    this.canvas.classList.remove("cells");
    const [height, width] = this.grid;
    const scale = RESOLUTION / Math.max(height, width);
    const [paper, ink] = this.colours;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const context = this.canvas.getContext("2d");
    context.fillStyle = paper;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.scale(scale, scale);
    const lineWidth = PEN * Math.max(height, width);
    Object.assign(context, { strokeStyle: ink, lineWidth, lineCap: "round", lineJoin: "round" });
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
  }
}
