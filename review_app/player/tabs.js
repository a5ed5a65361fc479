// The reviewer's tabs in one browser, told apart: for the server they are one person, so they tell
// each other which segments they have and do not ask for those. Each holds a lock in its own name,
// which the browser lets go whatever happens to the tab, so the others learn that it is gone.

import { unique } from "./api.js";

const ANSWER_MS = 60; // another tab of this browser has answered by then

export class Tabs {
  // `held()` gives the segments of this tab; `changed()` is called when those of others change;
  // `alive()` says whether the screen is still there.
  constructor({ held, changed, alive }) {
    Object.assign(this, { held, changed, alive, id: unique(), others: new Map(), channel: null });
    this.leave = null; // lets the lock go
  }

  // Meet the tabs of the same workspace and reviewer.
  async join(store) {
    if (!("BroadcastChannel" in window)) return;
    this.channel = new BroadcastChannel(`whisper-harvest/${store}`);
    this.channel.onmessage = ({ data }) => this.hear(data);
    await this.lock();
    addEventListener("pagehide", () => this.say({ gone: true })); // where there are no locks
    addEventListener("pageshow", () => this.ask());
    this.ask();
    await new Promise((resume) => setTimeout(resume, ANSWER_MS));
  }

  // Hold a lock until `leave` is called or the tab is gone. Without a secure connection there are none.
  lock() {
    return new Promise((resume) => {
      if (!navigator.locks) resume();
      navigator.locks?.request(this.id, () => {
        resume();
        return new Promise((leave) => (this.leave = leave));
      });
    });
  }

  hear({ from, held, asks, gone }) {
    if (!this.alive()) {
      // The page was built anew, as after a restart of the server, with another screen in it.
      this.channel?.close();
      this.channel = null;
      this.leave?.();
      return;
    }
    const known = this.others.has(from);
    if (gone) this.others.delete(from);
    else this.others.set(from, held);
    if (!known && !gone) navigator.locks?.request(from, () => this.hear({ from, gone: true }));
    if (asks) this.say({});
    this.changed();
  }

  say(more) {
    this.channel?.postMessage({ from: this.id, held: this.held(), ...more });
  }

  // Look anew who is there.
  ask() {
    this.others.clear();
    this.say({ asks: true });
  }

  get taken() {
    return [...this.others.values()].flat();
  }
}
