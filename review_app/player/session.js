// The reviewer's side of the queue.
//
// Decisions are kept in the browser's storage until the server has stored them, and go out one by
// one in their order; a repeated request does not decide twice. One segment is fetched ahead. All
// requests go through one loop, so that no two of them can bring the same segment.

const RETRY_MS = 2000;
const RENEW_MS = 60_000; // a third of the time for which the server keeps a segment for us

async function call(path, body) {
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { "X-Requested-With": "review_app", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    keepalive: Boolean(body), // a decision arrives even when the tab is closed at once
  });
  if (response.ok) return response.json();
  const { detail, theirs } = await response.json().catch(() => ({}));
  const message = typeof detail === "string" ? detail : `the server answered ${response.status}`;
  throw Object.assign(new Error(message), { status: response.status, theirs });
}

// The browser's storage under one workspace's and reviewer's name. Where it fails (a private window,
// a full disk) reviewing goes on with what is in memory, only not over a reload.
class Store {
  constructor(name) {
    this.prefix = `whisper-harvest/${name}/`;
    this.unsaved = new Map();
  }

  get(key, otherwise) {
    if (this.unsaved.has(key)) return this.unsaved.get(key) ?? otherwise;
    return JSON.parse(localStorage.getItem(this.prefix + key)) ?? otherwise;
  }

  set(key, value) {
    try {
      if (value === undefined) localStorage.removeItem(this.prefix + key);
      else localStorage.setItem(this.prefix + key, JSON.stringify(value));
      this.unsaved.delete(key);
    } catch {
      this.unsaved.set(key, value);
    }
  }
}

export class Session {
  // `screen` is told of changes: show(item or null), prepare(item), changed(), say(words).
  constructor(screen) {
    this.screen = screen;
    this.current = null;
    this.upcoming = null;
    this.exhausted = false;
    this.running = false;
    this.waiting = null;
    this.trouble = null; // why the server cannot be reached
    this.info = null;
    this.store = null;
    setInterval(() => {
      if (!document.hidden) this.tell("/api/v1/renew", this.leases());
    }, RENEW_MS);
    addEventListener("pagehide", () => this.tell("/api/v1/release", this.leases()));
  }

  get outbox() {
    return this.store?.get("outbox", []) ?? [];
  }

  // Typed texts whose decision the server refused: shown until the reviewer has dealt with them.
  get kept() {
    return this.store?.get("kept", []) ?? [];
  }

  draft(segmentId) {
    return this.store.get(`draft/${segmentId}`, null);
  }

  setDraft(segmentId, text) {
    this.store.set(`draft/${segmentId}`, text);
  }

  dismiss(clientId) {
    this.store.set("kept", this.kept.filter((one) => one.client_id !== clientId));
    this.screen.changed();
  }

  // The text goes along with every action, so that it can be shown again if the server refuses.
  decide(action, text, reason = null) {
    const { segment_id, transcript_id, version, lease, shownAt } = this.current;
    const client_id = crypto.randomUUID();
    const lead_ms = Math.round(performance.now() - shownAt);
    this.store.set("outbox", [
      ...this.outbox,
      { client_id, segment_id, transcript_id, version, lease, lead_ms, action, text, reason },
    ]);
    this.current = this.upcoming;
    this.upcoming = null;
    this.exhausted = false;
    this.screen.show(this.current);
    this.run();
  }

  look() {
    this.exhausted = false;
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    try {
      if (!this.info) {
        this.info = await call("/api/v1/session");
        this.store = new Store(this.info.store);
      }
      for (;;) {
        if (this.outbox.length) await this.deliver(this.outbox[0]);
        else if (!this.upcoming && !this.exhausted) await this.fetchNext();
        else break;
        this.trouble = null;
        this.screen.changed();
      }
    } catch (error) {
      this.trouble = error.message;
      setTimeout(() => this.run(), RETRY_MS);
    } finally {
      this.running = false;
      this.screen.changed();
    }
  }

  async fetchNext() {
    const exclude = this.held().map((id) => `exclude=${encodeURIComponent(id)}`);
    this.take(await call(`/api/v1/next?${exclude.join("&")}`));
  }

  async deliver(decision) {
    try {
      const exclude = this.held().filter((id) => id !== decision.segment_id);
      this.take(await call("/api/v1/decide", { ...decision, exclude }));
    } catch (error) {
      if (!(error.status >= 400 && error.status < 500)) throw error;
      if (decision.action !== "skip") {
        const { message, theirs } = error;
        this.store.set("kept", [...this.kept, { ...decision, why: message, theirs: theirs?.after }]);
      }
    }
    this.store.set("outbox", this.outbox.filter((one) => one.client_id !== decision.client_id));
    if (decision.action !== "skip") this.setDraft(decision.segment_id, undefined);
  }

  // Take back our newest decision; what was before us comes after it.
  undo() {
    return this.change("/api/v1/undo", {}, ([item]) => [item, this.current]);
  }

  // Cut the segment at a time of its recording; the texts are those before and after.
  split(at_ms, texts) {
    return this.change("/api/v1/split", { ...this.claim(), at_ms, texts }, (items) => items);
  }

  // Make one of the segment and the next one of its recording.
  merge() {
    return this.change("/api/v1/merge", this.claim(), ([item]) => [item, this.upcoming]);
  }

  claim() {
    const { segment_id, version, lease } = this.current;
    return { segment_id, version, lease };
  }

  // Ask for other segments than those that we have; `then` tells which two come now.
  async change(path, body, then) {
    if (this.running || this.outbox.length) {
      this.screen.say("Still saving. Try again in a moment.");
      return;
    }
    this.running = true;
    try {
      const reply = await call(path, body);
      const items = reply.items ?? [reply.item];
      const before = [this.current, this.upcoming];
      const [current, upcoming = null] = then(items);
      [this.current, this.upcoming] = [current, upcoming];
      const left = before.filter((one) => one?.lease && one !== current && one !== upcoming);
      this.tell("/api/v1/release", left.map((one) => one.lease));
      for (const item of items) this.screen.prepare(item);
      this.screen.show(current);
      this.exhausted = false;
    } catch (error) {
      this.screen.say(error.message);
    } finally {
      this.running = false;
      this.run();
    }
  }

  leases() {
    return [this.current, this.upcoming].map((one) => one?.lease).filter(Boolean);
  }

  // A request whose answer does not matter.
  tell(path, leases) {
    if (leases.length) call(path, { leases }).catch(() => {});
  }

  held() {
    const items = [this.current, this.upcoming].filter(Boolean);
    return [...items, ...this.outbox].map((one) => one.segment_id);
  }

  take({ item, waiting }) {
    this.waiting = waiting;
    this.exhausted = item === null;
    if (item === null) {
      if (!this.current) this.screen.show(null);
    } else if (!this.current) {
      this.current = item;
      this.screen.prepare(item);
      this.screen.show(item);
    } else if (!this.upcoming) {
      this.upcoming = item;
      this.screen.prepare(item);
    }
  }

  peaks(item) {
    return call(item.peaks);
  }
}
