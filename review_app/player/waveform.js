// The waveform: peaks of the segment as bars on a canvas; a click or a drag seeks.

const BAR = 3; // CSS pixels from one bar to the next
const GAP = 1;

export class Waveform {
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.peaks = [];
    this.part = 0;
    const seekTo = (event) => {
      const box = canvas.getBoundingClientRect();
      seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      seekTo(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) seekTo(event);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // Show other peaks: numbers from 0 to 100, at even distances over the segment.
  load(peaks) {
    this.peaks = peaks;
    this.moveTo(0);
  }

  // Colour the first part of the bars, from 0 to 1, as played.
  moveTo(part) {
    this.part = part;
    this.draw();
  }

  draw() {
    const { canvas, peaks } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const density = window.devicePixelRatio || 1;
    canvas.width = width * density;
    canvas.height = height * density;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const played = style.getPropertyValue("accent-color");
    pen.scale(density, density);
    const bars = Math.floor(width / BAR);
    for (let bar = 0; bar < bars && peaks.length; bar++) {
      const first = Math.floor((bar * peaks.length) / bars);
      const last = Math.max(first + 1, Math.floor(((bar + 1) * peaks.length) / bars));
      const tall = Math.max(2, (Math.max(...peaks.slice(first, last)) / 100) * (height - 8));
      pen.fillStyle = (bar + 0.5) / bars <= this.part ? played : style.color;
      pen.fillRect(bar * BAR, (height - tall) / 2, BAR - GAP, tall);
    }
    pen.fillStyle = played;
    pen.fillRect(Math.min(width - 2, this.part * width), 0, 2, height);
  }
}
