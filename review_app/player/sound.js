// Playing: the segment from its start to its end, again and again, or a short piece of it. Times are
// seconds from the start of the segment as it was cut; what lies around it can be heard too.

const RESUME_REWIND = 0.5; // playing on after a pause repeats this much
const NEAR = 0.05; // so close to the end is at the end
const MIN_RATE = 0.5;
const MAX_RATE = 2;

export class Sound {
  // `moved()` is called when there is something to draw, `failed(words)` when nothing can be heard.
  constructor({ moved, failed }) {
    Object.assign(this, { moved, failed, rate: 1, looping: false, media: null });
    this.unload();
  }

  unload() {
    this.audio?.pause();
    Object.assign(this, { media: null, audio: new Audio(), head: 0, start: 0, end: 0, last: 0 });
    Object.assign(this, { until: null, backTo: null });
  }

  load(media, seconds, tail) {
    this.unload();
    Object.assign(this, { media, audio: media.audio, head: media.head, end: seconds });
    this.last = seconds + tail;
    this.audio.playbackRate = this.audio.defaultPlaybackRate = this.rate;
    this.audio.onseeked = this.moved;
    this.audio.ontimeupdate = () => this.look(); // also where nothing is drawn, in a hidden tab
    this.audio.onended = () => this.arrived();
    this.audio.onplay = () => this.follow();
    this.audio.onpause = this.moved;
    this.seek(0);
  }

  get paused() {
    return this.audio.paused;
  }

  get at() {
    return this.asked ?? this.audio.currentTime - this.head;
  }

  // A place asked for before the sound is there is kept until it is.
  seek(seconds) {
    const at = Math.min(Math.max(-this.head, seconds), this.last);
    if (this.audio.readyState === 0) {
      this.asked = at;
      this.audio.onloadedmetadata = () => this.seek(this.asked ?? 0);
    } else {
      this.asked = null;
      const place = at + this.head;
      if (Math.abs(this.audio.currentTime - place) > 0.001) this.audio.currentTime = place;
    }
    this.until = at < this.end - NEAR ? this.end : null;
    this.backTo = null;
    this.moved();
  }

  async play() {
    const { media, audio } = this;
    if (!media) return;
    try {
      await media.load();
      if (audio === this.audio) await audio.play();
    } catch (error) {
      if (error.name === "AbortError" || audio !== this.audio) return; // paused before it began
      const silent = error.name === "NotAllowedError";
      this.failed(silent ? "Press Tab or Play to listen."
        : "The sound of this segment cannot be loaded. Play tries again.");
    }
  }

  pause() {
    this.audio.pause();
  }

  toggle() {
    if (!this.paused) {
      this.pause();
      return;
    }
    const atEnd = Math.abs(this.at - this.end) < NEAR || this.at >= this.last - NEAR;
    const from = this.at >= this.start ? this.start : -this.head;
    this.seek(atEnd ? this.start : Math.max(from, this.at - RESUME_REWIND));
    this.play();
  }

  replay() {
    this.seek(this.start);
    this.play();
  }

  // Play a short piece around a place, and be where we were.
  around(seconds, reach) {
    const back = this.backTo ?? this.at;
    this.seek(seconds - reach);
    this.until = Math.min(seconds + reach, this.last);
    this.backTo = back;
    this.play();
  }

  setRate(rate) {
    this.rate = Math.round(Math.min(MAX_RATE, Math.max(MIN_RATE, rate)) * 10) / 10;
    this.audio.playbackRate = this.audio.defaultPlaybackRate = this.rate;
  }

  // Other bounds: what is played, and where it starts again.
  setBounds(start, end) {
    const wholly = this.until === this.end;
    Object.assign(this, { start, end });
    if (wholly) this.until = end;
  }

  follow() {
    this.look();
    this.moved();
    if (!this.paused) requestAnimationFrame(() => this.follow());
  }

  look() {
    if (!this.paused && this.until !== null && this.at >= this.until) this.arrived();
  }

  arrived() {
    const { until, backTo } = this;
    if (this.looping && backTo === null) {
      this.replay();
      return;
    }
    this.pause();
    if (backTo !== null || until !== null) this.seek(backTo ?? until);
    this.moved();
  }
}
