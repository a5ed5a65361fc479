// The sound of a segment, with what lies around it: fetched once, to be played and to be drawn. All
// of it is in memory before it plays, so that a lost connection does not stop it.

const PEAKS = 640;
const KEPT = 6; // sounds; a long one is half a megabyte

const recent = [];

export class Media {
  constructor(item) {
    this.address = `${item.audio}?context=1`;
    this.head = item.context_before_ms / 1000; // seconds before the segment
    this.audio = new Audio();
    this.audio.preload = "auto";
    // Where it will start, so that it need not go there first once it is to be heard.
    this.audio.addEventListener("loadedmetadata", () => (this.audio.currentTime = this.head));
    recent.push(this);
    if (recent.length > KEPT) recent.shift().free();
  }

  // Resolves when it can be played; one that failed is tried again.
  load() {
    this.loading ??= this.fetch().catch((error) => {
      this.loading = null;
      throw error;
    });
    return this.loading;
  }

  async fetch() {
    const response = await fetch(this.address);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const blob = await response.blob();
    this.peaks = peaks(blob).catch(() => []);
    this.url = URL.createObjectURL(blob);
    this.audio.src = this.url;
  }

  free() {
    if (!this.audio.paused) return;
    URL.revokeObjectURL(this.url);
    this.loading = null;
  }
}

// The loudest sample of each of PEAKS stretches, from 0 to 1 of the loudest of all.
async function peaks(blob) {
  const decoder = new OfflineAudioContext(1, 1, 16_000);
  const samples = (await decoder.decodeAudioData(await blob.arrayBuffer())).getChannelData(0);
  const found = new Array(PEAKS).fill(0);
  for (let i = 0; i < samples.length; i++) {
    const at = Math.floor((i * PEAKS) / samples.length);
    found[at] = Math.max(found[at], Math.abs(samples[i]));
  }
  const loudest = Math.max(...found, 1e-6);
  return found.map((peak) => peak / loudest);
}
