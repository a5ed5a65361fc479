// Elements from texts. A transcript comes from the web, so texts reach the page through textContent
// and value only.

export function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = content;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function button(label, run) {
  const made = element("button", label, { type: "button" });
  made.addEventListener("click", run);
  return made;
}

export function fill(parent, values, make) {
  parent.replaceChildren(...values.map(make));
}
