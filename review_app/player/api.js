// Requests to the server.

let reviewer = "";

// From now on the server refuses what is asked for while somebody else is signed in.
export function speakFor(name) {
  reviewer = encodeURIComponent(name);
}

export async function call(path, body) {
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: {
      "X-Requested-With": "review_app",
      "X-Reviewer": reviewer,
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body && JSON.stringify(body),
    keepalive: Boolean(body), // a decision arrives even when the tab is closed at once
  });
  if (response.ok) return response.json();
  const { detail, theirs } = await response.json().catch(() => ({}));
  const message = typeof detail === "string" ? detail : `the server answered ${response.status}`;
  throw Object.assign(new Error(message), { status: response.status, theirs });
}

// A name that nobody else has; randomUUID is there on encrypted pages and on this machine only.
export function unique() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
