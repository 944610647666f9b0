// Keeps the live part of a page fresh until what it shows has ended; while a service is down it says which, and goes on.

import { signInFor } from "./base.js";

const PAUSE_MS = 2000;
const region = document.getElementById("live");
const notice = document.getElementById("live-notice");
let last = "";

function isFinal() {
  return region.querySelector("[data-final]")?.dataset.final === "yes";
}

function replace(text) {
  if (text === last) return;
  last = text;
  const next = new DOMParser().parseFromString(text, "text/html").body;
  for (const details of region.querySelectorAll("details[open]")) next.querySelector(`#${details.id}`)?.setAttribute("open", "");
  patch(region, [...next.childNodes]);
}

// Only what has changed is put in anew: focus, selection and what is scrolled stay where they are.
function patch(parent, wanted) {
  const there = [...parent.childNodes];
  wanted.forEach((next, index) => {
    const now = there[index];
    if (!now) parent.append(next);
    else if (now.isEqualNode(next)) return;
    else if (now.nodeType === Node.ELEMENT_NODE && now.cloneNode().isEqualNode(next.cloneNode())) patch(now, [...next.childNodes]);
    else now.replaceWith(next);
  });
  for (const left of there.slice(wanted.length)) left.remove();
}

function tell(message, ...links) {
  notice.hidden = !message;
  if (notice.textContent !== message) notice.replaceChildren(message, ...links);
}

function toSignIn() {
  const link = document.createElement("a");
  link.href = signInFor(location.pathname + location.search);
  link.textContent = "Sign in";
  return link;
}

async function refresh() {
  try {
    const response = await fetch(region.dataset.live, { headers: { accept: "application/json" } });
    if (response.ok) {
      replace(await response.text());
      tell("");
    } else {
      const fault = await response.json();
      const links = response.status === 401 ? [" ", toSignIn()] : [];
      tell(`${fault.message}${fault.retry ? " What you see is as it was; this page goes on by itself." : ""}`, ...links);
      if (!fault.retry) return false;
    }
  } catch {
    tell("The console does not answer. What you see is as it was; this page goes on by itself.");
  }
  return true;
}

async function loop() {
  const goesOn = document.hidden || (await refresh());
  if (goesOn && !isFinal()) setTimeout(loop, PAUSE_MS);
}

if (!isFinal()) loop();
