// What a person has typed and not yet sent, kept in this browser by person and task.

const PREFIX = "ilf-draft:";
const KEPT_DAYS = 30;

// What was sent last, by key, where the browser has no room to keep it.
const unwritten = {};

export const key = (user, task) => `${PREFIX}${user}:${task}`;

// {answer, at, sent} or null.
export function recall(user, task) {
  return read(key(user, task));
}

// Keeps the present answer; false where the browser has no room.
export function keep(user, task, answer) {
  return write(key(user, task), { ...recall(user, task), answer, at: Date.now() });
}

export function forget(user, task) {
  delete unwritten[key(user, task)];
  localStorage.removeItem(key(user, task));
}

// The id that a request with this content carries: a repeat has the same, another content has another.
export function requestId(user, task, content) {
  const draft = recall(user, task) ?? { at: Date.now() };
  const text = JSON.stringify(content);
  const sent = unwritten[key(user, task)] ?? draft.sent;
  draft.sent = sent?.text === text ? sent : { text, id: crypto.randomUUID() };
  if (write(key(user, task), draft)) delete unwritten[key(user, task)];
  else unwritten[key(user, task)] = draft.sent;
  return draft.sent.id;
}

// Lets go of drafts that nobody came back to.
export function sweep() {
  const oldest = Date.now() - KEPT_DAYS * 24 * 3600 * 1000;
  for (const name of Object.keys(localStorage)) {
    if (name.startsWith(PREFIX) && (read(name)?.at ?? 0) < oldest) localStorage.removeItem(name);
  }
}

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

function write(name, draft) {
  try {
    localStorage.setItem(name, JSON.stringify(draft));
    return true;
  } catch {
    return false;
  }
}
