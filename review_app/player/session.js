// The reviewer's side of the queue.
//
// Decisions are kept in the browser's storage until the server has stored them, and go out one by
// one in their order; a repeated request does not decide twice. One segment is fetched ahead. All
// requests go through one loop, so that no two of them can bring the same segment.

import { call, speakFor, unique } from "./api.js";
import { Store } from "./store.js";
import { Tabs } from "./tabs.js";

const RETRY_MS = 2000;
const RENEW_MS = 60_000; // a third of the time for which the server keeps a segment for us
const LATER = [401, 403, 408, 429]; // not the decision's fault: it is sent again
const TRAIL = 50; // segments that one can go back to

export class Session {
  // `screen` is told of changes: show(item or null), prepare(item), changed(), say(words); alive()
  // says whether it is still on the page.
  constructor(screen) {
    this.screen = screen;
    this.current = null;
    this.upcoming = null;
    this.exhausted = false;
    this.loop = null; // the run of the loop, while there is one
    this.waiting = null;
    this.conflicts = 0; // what waits for an adjudicator, where we are one
    this.trouble = null; // why the server cannot be reached
    this.signedOut = false;
    this.info = null;
    this.store = null;
    this.trail = []; // what was shown before
    this.linked = linkedSegment();
    const { changed, alive } = screen;
    this.tabs = new Tabs({ held: () => this.held(), changed, alive });
    setInterval(() => this.renew(), RENEW_MS);
    addEventListener("online", () => this.run());
    document.addEventListener("visibilitychange", () => this.renew());
    addEventListener("pagehide", () => this.release(this.leases()));
    addEventListener("hashchange", () => this.follow());
  }

  get outbox() {
    return this.store?.get("outbox", []) ?? [];
  }

  // Typed texts whose decision the server refused: shown until the reviewer has dealt with them.
  get kept() {
    return this.store?.get("kept", []) ?? [];
  }

  get filters() {
    return this.store?.get("filters", {}) ?? {};
  }

  // What was typed for a segment and not decided yet: {text, start_ms, end_ms}, or nothing of it.
  draft(segmentId) {
    return this.store.get(`draft/${segmentId}`, {});
  }

  setDraft(segmentId, draft) {
    this.store.set(`draft/${segmentId}`, draft);
  }

  dismiss(clientId) {
    this.store.set("kept", this.kept.filter((one) => one.client_id !== clientId));
    this.screen.changed();
  }

  // The text goes along with every action, so that it can be shown again if the server refuses.
  decide(action, text, { reason = null, bounds = {} } = {}) {
    const { segment_id, transcript_id, version, shownAt } = this.current;
    const client_id = unique();
    const lead_ms = Math.round(performance.now() - shownAt);
    this.store.set("outbox", [
      ...this.outbox,
      { client_id, segment_id, transcript_id, version, lead_ms, action, text, reason, ...bounds },
    ]);
    this.goOn();
  }

  // Go on without deciding, and give the segment back.
  pass() {
    this.release([this.current.lease]);
    this.goOn();
  }

  goOn() {
    this.trail = [...this.trail, this.current.segment_id].slice(-TRAIL);
    this.current = this.upcoming;
    this.upcoming = null;
    this.exhausted = false;
    this.show();
    this.run();
  }

  show() {
    this.screen.show(this.current);
    this.tabs.say({});
    const address = this.current ? `#segment=${encodeURIComponent(this.current.segment_id)}` : " ";
    history.replaceState(history.state, "", address.trim() || location.pathname + location.search);
  }

  look() {
    this.exhausted = false;
    this.tabs.ask();
    this.run();
  }

  // Want other segments.
  setFilters(filters) {
    this.store.set("filters", filters);
    this.release(this.leases());
    this.current = this.upcoming = null;
    this.exhausted = false;
    this.show();
    this.run();
  }

  run() {
    this.loop ??= this.work().finally(() => {
      this.loop = null;
      this.screen.changed();
    });
    return this.loop;
  }

  async work() {
    try {
      if (!this.info) await this.begin();
      while (this.screen.alive()) {
        if (this.linked) await this.fetchLinked(this.linked);
        else if (this.outbox.length) await this.deliver(this.outbox[0]);
        else if (!this.upcoming && !this.exhausted) await this.fetchNext();
        else break;
        this.trouble = null;
        this.signedOut = false;
        this.screen.changed();
      }
    } catch (error) {
      this.trouble = error.message;
      this.signedOut = error.status === 401;
      setTimeout(() => this.run(), RETRY_MS);
    }
  }

  async begin() {
    const info = await call("/api/v1/session");
    speakFor(info.reviewer);
    this.store = new Store(info.store);
    await this.tabs.join(info.store);
    this.info = info;
  }

  async fetchLinked(id) {
    try {
      const { item } = await call(address(id));
      this.take({ item });
    } catch (error) {
      if (error.status === undefined || error.status >= 500) throw error;
      this.screen.say(`${error.message}.`);
    }
    this.linked = undefined;
  }

  async fetchNext() {
    const { filters } = this;
    const exclude = this.excluded().map((id) => ["exclude", id]);
    const wanted = new URLSearchParams([...exclude, ...Object.entries(filters)]);
    this.take(await call(`/api/v1/next?${wanted}`), filters);
  }

  async deliver(decision) {
    const { filters } = this;
    try {
      const exclude = this.excluded().filter((id) => id !== decision.segment_id);
      this.take(await call("/api/v1/decide", { ...decision, exclude, filters }), filters);
    } catch (error) {
      const refused = error.status >= 400 && error.status < 500 && !LATER.includes(error.status);
      if (!refused) throw error;
      const known = this.kept.some((one) => one.client_id === decision.client_id);
      if (decision.action !== "skip" && !known) {
        this.store.set("kept", [...this.kept, { ...decision, why: error.message, theirs: error.theirs }]);
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

  // Make one of the segment and the next one of its recording; that may be what we have fetched ahead.
  merge() {
    return this.change("/api/v1/merge", this.claim(), ([item]) => [item, null]);
  }

  // Show a segment by its id; what was before us comes after it.
  open(id) {
    return this.change(address(id), undefined, ([item]) => [item, this.current]);
  }

  // Show what was shown before.
  async previous() {
    const id = this.trail.pop();
    if (id === undefined) this.screen.say("There is nothing before this segment.");
    else await this.open(id);
  }

  // Make an earlier decision hold again.
  async revert(decision_id) {
    const id = this.current.segment_id;
    try {
      await call(`${address(id)}/revert`, { decision_id });
      await this.open(id);
    } catch (error) {
      this.screen.say(`${error.message}.`);
    }
  }

  // A link to a segment was followed on the open page.
  follow() {
    const id = linkedSegment();
    if (this.screen.alive() && id && id !== this.current?.segment_id) this.open(id);
  }

  // A segment is cut once, however often we ask because no answer came.
  claim() {
    this.current.cut ??= unique();
    const { segment_id, version, cut } = this.current;
    return { segment_id, version, client_id: cut };
  }

  // Ask for other segments than those that we have; `then` tells which two come now.
  async change(path, body, then) {
    await this.loop;
    if (this.loop || this.outbox.length || !this.info) {
      this.screen.say("Still saving. Try again in a moment.");
      return;
    }
    this.loop = this.replace(path, body, then);
    await this.loop;
    this.loop = null;
    this.run();
  }

  async replace(path, body, then) {
    try {
      const reply = await call(path, body);
      const items = reply.items ?? [reply.item];
      const before = [this.current, this.upcoming];
      const [current, upcoming] = then(items);
      const same = current.segment_id === upcoming?.segment_id;
      [this.current, this.upcoming] = [current, same ? null : upcoming ?? null];
      if (this.trail.at(-1) === current.segment_id) this.trail.pop();
      const have = this.leases();
      const left = before.map((one) => one?.lease);
      this.release(left.filter((lease) => lease && !have.includes(lease)));
      for (const item of items) this.screen.prepare(item);
      this.show();
      this.exhausted = false;
    } catch (error) {
      this.screen.say(`${error.message}.`);
    }
  }

  leases() {
    return [this.current, this.upcoming].map((one) => one?.lease).filter(Boolean);
  }

  release(leases) {
    const held = leases.filter(Boolean);
    if (held.length) call("/api/v1/release", { leases: held }).catch(() => {});
  }

  // Keep what we have, as long as somebody looks at it. After a sleep it may be another's.
  async renew() {
    const asked = this.leases();
    if (document.hidden || !this.screen.alive() || !asked.length) return;
    try {
      const { leases } = await call("/api/v1/renew", { leases: asked });
      for (const lost of asked.filter((lease) => !leases.includes(lease))) await this.recover(lost);
    } catch {
      // No connection: the loop tells, and a decision that came too late is kept.
    }
  }

  // Take a segment again whose lease ran out.
  async recover(lease) {
    const lost = [this.current, this.upcoming].find((one) => one?.lease === lease);
    if (!lost) return; // it is decided by now
    const { item } = await call(address(lost.segment_id));
    if (lost === this.upcoming && item.held_by) {
      this.upcoming = null;
      this.run();
    } else {
      Object.assign(lost, { lease: item.lease, held_by: item.held_by });
    }
    this.screen.changed();
  }

  held() {
    const items = [this.current, this.upcoming].filter(Boolean);
    return [...items, ...this.outbox].map((one) => one.segment_id);
  }

  // What not to bring; the server takes a hundred.
  excluded() {
    return [...new Set([...this.held(), ...this.tabs.taken])].slice(0, 100);
  }

  // `filters` are those that were asked with: what comes after others were set is given back.
  take({ item, waiting = this.waiting, conflicts = this.conflicts }, filters = this.filters) {
    Object.assign(this, { waiting, conflicts });
    if (JSON.stringify(filters) !== JSON.stringify(this.filters)) {
      this.release([item?.lease]);
      return;
    }
    this.exhausted = item === null;
    if (item === null) {
      if (!this.current) this.show();
    } else if (!this.current) {
      this.current = item;
      this.screen.prepare(item);
      this.show();
    } else if (!this.upcoming) {
      this.upcoming = item;
      this.screen.prepare(item);
      this.tabs.say({});
    } else {
      this.release([item.lease]);
    }
  }
}

function address(id) {
  return `/api/v1/segments/${encodeURIComponent(id)}`;
}

// The segment that the page's address names, or undefined.
function linkedSegment() {
  return new URLSearchParams(location.hash.slice(1)).get("segment") ?? undefined;
}
