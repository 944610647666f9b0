// The flow of a desk: keep what is typed, send it, take the next task, hold on to the lease meanwhile.

import { fetchPage, post, signInFor } from "./base.js";
import * as drafts from "./drafts.js";
import { listen } from "./keys.js";
import { hush, say, sayBriefly } from "./say.js";

const AGAIN_MS = 4000;
const LOOK_MS = 15000;
const LEAST_RENEWAL_MS = 5000;
const GONE = new Set(["LEASE_EXPIRED", "LEASE_TAKEN", "TASK_DONE"]);

let timers = [];
let repeat;
let sending = false;

const desk = () => document.getElementById("desk");
const form = () => document.getElementById("answer");
const facts = () => desk().dataset;

// --- the page ---

function begin() {
  timers.forEach(clearTimeout);
  timers = [];
  if (!facts().task) return later(look, LOOK_MS);
  restore();
  if (!isEditing()) holdOn(Number(facts().leaseSeconds));
  focus();
}

const isEditing = () => "editing" in facts();

function later(action, milliseconds) {
  timers.push(setTimeout(action, milliseconds));
}

function focus() {
  const text = form().querySelector("textarea[name=feedback]");
  const hasKeyboard = matchMedia("(hover: hover)").matches;
  (text && hasKeyboard ? text : desk().querySelector("h1")).focus({ preventScroll: true });
}

// Puts the page of an address in the place of this one; false where it cannot be had now.
async function turn(address) {
  const page = await fetchPage(address);
  if (!page) return false;
  const next = page.getElementById("desk");
  if (!next) location.assign(address);
  else {
    desk().replaceWith(document.adoptNode(next));
    begin();
    scrollTo(0, 0);
  }
  return true;
}

async function turnTo(address) {
  if (!(await turn(address))) return location.assign(address);
  history.pushState(null, "", address);
  hush();
}

async function nextTask(message) {
  const address = facts().here;
  if (await turn(address)) {
    history.replaceState(null, "", address);
    return message ? sayBriefly(message) : hush();
  }
  say(`${message} The next task cannot be loaded at the moment; this page tries again by itself.`, "warn");
  later(() => nextTask(message), AGAIN_MS);
}

async function look() {
  if (document.hidden || !(await turn(facts().here))) later(look, LOOK_MS);
}

// --- what is typed ---

function answerOf() {
  const data = new FormData(form());
  const answer = Object.fromEntries([...data].filter(([name]) => name !== "flags"));
  for (const name of Object.keys(answer)) answer[name] = answer[name].toWellFormed();
  return { ...answer, flags: data.getAll("flags") };
}

function fill(answer) {
  for (const field of form().elements) {
    if (field.name === "flags") field.checked = answer.flags?.includes(field.value) ?? false;
    else if (field.type === "radio") field.checked = answer[field.name] === field.value;
    else if (field.name) field.value = answer[field.name] ?? "";
  }
  if (answer.flags?.length) form().querySelector(".flags").open = true;
}

function restore() {
  const draft = drafts.recall(facts().user, facts().task);
  if (!draft?.answer || JSON.stringify(draft.answer) === JSON.stringify(answerOf())) return;
  fill(draft.answer);
  note(`Your draft of ${new Date(draft.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })} is back.`);
}

function keep() {
  const kept = drafts.keep(facts().user, facts().task, answerOf());
  note(kept ? "Draft kept here" : "No room for drafts in this browser: submit before you leave");
}

function note(message) {
  document.getElementById("kept").textContent = message;
}

function blame(message) {
  const place = document.getElementById("answer-wrong");
  place.textContent = message;
  place.hidden = !message;
  form().querySelector("textarea")?.setAttribute("aria-invalid", String(Boolean(message)));
}

// --- sending ---

// Sends the answer; `change` stands in for what is typed. A lease that ran out is taken again once, if it can be had.
async function submit(change = {}, isLeasedAgain = false) {
  if (sending || !form()?.querySelector("button[type=submit]")) return;
  const { path, user, task } = facts();
  const content = { ...answerOf(), ...change };
  const problem = content.skip ? "" : missing(content);
  if (problem) return blame(problem);
  clearTimeout(repeat);
  blame("");
  busy(true);
  const request_id = drafts.requestId(user, task, content);
  const { ok, status, body } = await post(`${path}/answers`, { task, request_id, ...content });
  busy(false);
  if (ok) {
    drafts.forget(user, task);
    return nextTask(content.skip ? "Skipped." : "Saved.");
  }
  if (body.retry) return sendLater(task, body.message, change);
  if (body.reason === "LEASE_EXPIRED" && !isLeasedAgain && (await isHeld())) return submit(change, true);
  refused(status, body, content);
}

function sendLater(task, message, change) {
  // Meanwhile the page may have turned to another task.
  const again = () => facts().task === task && submit(change);
  say(`Not sent yet. ${message}`, "warn", [{ label: "Try now", act: again }]);
  repeat = setTimeout(again, AGAIN_MS);
}

function missing(content) {
  if ("feedback" in content && !content.feedback.trim()) return "Write what is wrong first, or skip it.";
  if (facts().path === "/compare" && !content.preference) return "Say first which one is better, or that they tie.";
  if (facts().path === "/review" && !content.verdict) return "Say first whether the feedback is in it.";
  return "";
}

function busy(value) {
  sending = value;
  for (const button of form().querySelectorAll("button")) button.disabled = value;
}

function refused(status, body, content) {
  if (GONE.has(body.reason)) return gone(content);
  const again = status === 401 ? signInFor(facts().here) : location.href;
  if (status === 401) return say(body.message, "bad", [{ label: "Sign in; the draft is kept", href: again }]);
  if (status === 403) return say(body.message, "bad", [{ label: "Load the page again", href: again }]);
  blame(Object.values(body.fields).join(" ") || body.message);
}

// The task is no longer this person's: what was typed stays, and can be copied.
function gone(content) {
  const text = content.feedback || content.reason;
  const message = "This task went to somebody else, because your time for it was over, or its run has gone on.";
  say(text ? `${message} What you typed stays here.` : message, "bad", [
    ...(text ? [{ label: "Copy what you typed", copy: text }] : []),
    { label: "Next task", act: () => nextTask("") },
  ]);
}

// Asks before it drops what was typed.
function skip() {
  const typed = answerOf().feedback || answerOf().reason;
  if (!typed || isEditing()) return submit({ skip: true });
  say("Skip it, and drop what you typed?", "warn", [
    { label: "Skip", act: () => submit({ skip: true }) },
    { label: "Stay", act: hush },
  ]);
}

function useText(feedback) {
  if (isEditing() || !answerOf().feedback.trim()) return submit({ feedback });
  blame("You have typed something: submit that, or empty the text first.");
}

// --- the lease ---

function holdOn(seconds) {
  later(renew, Math.max(LEAST_RENEWAL_MS, (seconds * 1000) / 3));
}

async function renew() {
  const { task } = facts();
  const { ok, status, body } = await askForLease();
  if (facts().task !== task || isEditing()) return;
  if (!ok) return body.retry ? later(renew, LEAST_RENEWAL_MS) : refused(status, body, answerOf());
  if (body.held) return holdOn(body.lease_seconds);
  gone(answerOf());
}

async function isHeld() {
  const { ok, body } = await askForLease();
  return ok && body.held;
}

function askForLease() {
  return post(`${facts().path}/lease`, { task: facts().task });
}

// --- what happens ---

document.addEventListener("input", (event) => {
  if (!form()?.contains(event.target)) return;
  clearTimeout(repeat);
  keep();
  blame("");
});

document.addEventListener("submit", (event) => {
  if (event.target !== form()) return;
  event.preventDefault();
  submit();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && "skip" in button.dataset) skip();
  if (button && "fills" in button.dataset) useText(button.dataset.fills);
  const link = event.target.closest("a[data-turn]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  turnTo(link.href);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "show-changes") desk().querySelector(".changes").classList.toggle("plain", !event.target.checked);
});

// Another tab of this person answered the task, or went on with its draft.
window.addEventListener("storage", (event) => {
  const { user, task } = facts();
  if (!task || event.key !== drafts.key(user, task)) return;
  clearTimeout(repeat);
  if (event.newValue === null) return nextTask("Answered in another tab.");
  const { answer } = JSON.parse(event.newValue ?? "{}");
  if (answer && !document.hasFocus()) fill(answer);
});

window.addEventListener("popstate", () => turn(location.href));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && facts().task && !isEditing()) renew();
});

drafts.sweep();
listen(() => submit());
begin();
