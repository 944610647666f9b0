// Keeps the live part of a page fresh until what it shows has ended; while a service is down it says which, and goes on.

const PAUSE_MS = 2000;
const MOST_SEEN = 150;
const region = document.getElementById("live");
const notice = document.getElementById("live-notice");
let last = "";

// What a chart of this page has shown so far ("step:value"): the services only tell the newest.
const key = `seen ${region.dataset.live}`;
let seen = (sessionStorage.getItem(key) ?? "").split(",").filter(Boolean);

function remember() {
  const point = region.querySelector("[data-point]")?.dataset.point;
  if (!point || seen.at(-1) === point) return;
  const step = Number(point.split(":")[0]);
  seen = seen.filter((old) => Number(old.split(":")[0]) < step).concat(point);
  if (seen.length > MOST_SEEN) seen = seen.filter((_, index) => index % 2 === 0 || index === seen.length - 1);
  sessionStorage.setItem(key, seen.join(","));
}

function address() {
  return seen.length ? `${region.dataset.live}?seen=${encodeURIComponent(seen.join(","))}` : region.dataset.live;
}

function isFinal() {
  return region.querySelector("[data-final]")?.dataset.final === "yes";
}

function replace(text) {
  if (text === last) return;
  last = text;
  const open = new Set([...region.querySelectorAll("details[open]")].map((details) => details.id));
  const focused = region.contains(document.activeElement) ? pathOf(document.activeElement) : null;
  region.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  for (const details of region.querySelectorAll("details")) details.open = details.open || open.has(details.id);
  if (focused) region.querySelector(focused)?.focus({ preventScroll: true });
}

// A selector of the element with the same link or name, so that the focus stays where it was.
function pathOf(element) {
  const href = element.getAttribute("href");
  const label = element.getAttribute("aria-label");
  if (href) return `[href="${CSS.escape(href)}"]`;
  return label ? `[aria-label="${CSS.escape(label)}"]` : "summary";
}

function tell(message) {
  notice.hidden = !message;
  if (notice.textContent !== message) notice.textContent = message;
}

async function refresh() {
  try {
    const response = await fetch(address(), { headers: { accept: "application/json, text/html" } });
    if (response.ok) {
      replace(await response.text());
      tell("");
    } else {
      const fault = await response.json();
      tell(`${fault.message}${fault.retry ? " What you see is as it was; this page goes on by itself." : ""}`);
      if (!fault.retry) return false;
    }
  } catch {
    tell("The console does not answer. What you see is as it was; this page goes on by itself.");
  }
  return true;
}

async function loop() {
  remember();
  const goesOn = document.hidden || (await refresh());
  remember();
  if (goesOn && !isFinal()) setTimeout(loop, PAUSE_MS);
}

if (!isFinal() || seen.length) loop();
