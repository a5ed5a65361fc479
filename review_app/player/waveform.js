// The waveform: bars on a canvas, what lies around the segment dimmed, and a handle at each bound.
// Times are seconds from the start of the segment as it was cut.

const BAR = 3; // CSS pixels from one bar to the next
const GAP = 1;
const AROUND = 0.35; // how much of the colour is left outside the segment

export class Waveform {
  // `seek(seconds)`; `drag(edge, seconds)` while a handle moves, `drop(edge)` when it is let go.
  constructor(canvas, edges, { seek, drag, drop }) {
    Object.assign(this, { canvas, edges, peaks: [], from: 0, to: 1, start: 0, end: 1, at: 0, asked: null });
    followPointer(canvas, (x) => seek(this.timeAt(x)));
    for (const [edge, handle] of Object.entries(edges)) {
      followPointer(handle, (x) => drag(edge, this.timeAt(x)), () => drop(edge));
    }
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // Show another sound, from one time to another.
  load(from, to) {
    Object.assign(this, { peaks: [], from, to });
  }

  setPeaks(peaks) {
    this.peaks = peaks;
    this.draw();
  }

  setBounds(start, end) {
    Object.assign(this, { start, end });
    this.edges.start.style.left = `${100 * this.part(start)}%`;
    this.edges.end.style.left = `${100 * this.part(end)}%`;
    this.draw();
  }

  moveTo(at) {
    this.at = at;
    this.draw();
  }

  part(seconds) {
    return (seconds - this.from) / (this.to - this.from || 1);
  }

  timeAt(x) {
    const box = this.canvas.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (x - box.left) / box.width));
    return this.from + part * (this.to - this.from);
  }

  // Once a frame at most, however much has changed.
  draw() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = null;
      this.paint();
    });
  }

  paint() {
    const { canvas, peaks } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const density = window.devicePixelRatio || 1;
    const [wide, tall] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const played = style.accentColor;
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);
    const [start, end, at] = [this.start, this.end, this.at].map((time) => this.part(time));
    const bars = Math.floor(width / BAR);
    for (let bar = 0; bar < bars && peaks.length; bar++) {
      const first = Math.floor((bar * peaks.length) / bars);
      const last = Math.max(first + 1, Math.floor(((bar + 1) * peaks.length) / bars));
      const high = Math.max(2, Math.max(...peaks.slice(first, last)) * (height - 12));
      const middle = (bar + 0.5) / bars;
      const inside = start <= middle && middle <= end;
      pen.globalAlpha = inside ? 1 : AROUND;
      pen.fillStyle = inside && middle <= at ? played : style.color;
      pen.fillRect(bar * BAR, (height - high) / 2, BAR - GAP, high);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = played;
    pen.fillRect(Math.min(width - 2, at * width), 0, 2, height);
  }
}

// Tell where a pointer that went down on an element is, until it is let go.
function followPointer(element, moved, dropped = () => {}) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    moved(event.clientX);
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) moved(event.clientX);
  });
  element.addEventListener("lostpointercapture", dropped);
}
