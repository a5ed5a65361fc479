// The browser's storage under one workspace's and reviewer's name. Where it fails (a private window,
// a full disk) reviewing goes on with what is in memory, only not over a reload.

export class Store {
  constructor(name) {
    this.prefix = `whisper-harvest/${name}/`;
    this.unsaved = new Map();
  }

  get(key, otherwise) {
    if (this.unsaved.has(key)) return this.unsaved.get(key) ?? otherwise;
    try {
      return JSON.parse(localStorage.getItem(this.prefix + key)) ?? otherwise;
    } catch {
      return otherwise;
    }
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
