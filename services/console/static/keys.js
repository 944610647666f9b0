// The keyboard of a desk: elements with `data-key` are pressed by Alt and their key, outside of a text by the key alone.

const PLAIN = "plain-keys";

export function listen(submit) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const inText = event.target.matches("textarea, input:not([type=checkbox], [type=radio])");
    if (event.key === "Enter") return enter(event, inText, submit);
    if (event.key === "Escape" && inText) return event.target.blur();
    const element = pressed(event, inText);
    if (!element) return;
    event.preventDefault();
    element.click();
  });
  offerPlainKeys();
}

function enter(event, inText, submit) {
  const whole = event.ctrlKey || event.metaKey;
  if (!whole && (inText || event.target.closest("a, button, summary"))) return;
  event.preventDefault();
  submit();
}

function pressed(event, inText) {
  if (event.ctrlKey || event.metaKey) return null;
  if (!event.altKey && (inText || !plainKeys())) return null;
  // With Alt the letter may be another character (on a Mac), so that the place of the key counts.
  const name = event.altKey ? placed(event.code) : event.key.toLowerCase();
  return document.querySelector(`#desk [data-key="${CSS.escape(name)}"]`);
}

function placed(code) {
  if (code === "Slash" || code === "Minus") return "?";
  return code.replace(/^(Key|Digit|Numpad)/, "").toLowerCase();
}

function plainKeys() {
  return localStorage.getItem(PLAIN) !== "off";
}

function offerPlainKeys() {
  const box = document.getElementById(PLAIN);
  box.checked = plainKeys();
  box.addEventListener("change", () => localStorage.setItem(PLAIN, box.checked ? "on" : "off"));
}
