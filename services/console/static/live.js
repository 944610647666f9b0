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

function tell(message) {
  notice.hidden = !message;
  if (notice.textContent !== message) notice.textContent = message;
}

async function refresh() {
  try {
    const response = await fetch(address(), { headers: { accept: "application/json" } });
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
