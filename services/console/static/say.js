// The notice above a desk: a message, and what can be done about it.

const PASSES_MS = 2500;
let passing;

// An action is {label} and one of `act` (a function), `copy` (a text) and `href` (an address).
export function say(message, kind, actions = []) {
  const place = document.getElementById("say");
  const line = document.createElement("p");
  line.textContent = message;
  place.className = `notice ${kind}`;
  place.replaceChildren(line, ...actions.map(offer));
  place.hidden = false;
  clearTimeout(passing);
}

// A message that goes away by itself.
export function sayBriefly(message) {
  say(message, "good");
  passing = setTimeout(hush, PASSES_MS);
}

export function hush() {
  document.getElementById("say").hidden = true;
}

function offer({ label, act, copy, href }) {
  const element = document.createElement(href ? "a" : "button");
  element.textContent = label;
  if (href) {
    element.href = href;
    element.className = "button";
  } else element.type = "button";
  if (copy) element.dataset.copy = copy;
  if (act) element.addEventListener("click", act);
  return element;
}
