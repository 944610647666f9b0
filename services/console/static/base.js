// What every page shares: talking to the server, the theme, dialogs, copying.

const csrf = document.querySelector('meta[name="csrf-token"]').content;

// Sends JSON and answers {ok, status, body}; where no answer came, status is 0 and the body says so as a fault does.
export async function post(url, data) {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-csrf": csrf },
      body: JSON.stringify(data),
    });
    return { ok: response.ok, status: response.status, body: await response.json() };
  } catch {
    return { ok: false, status: 0, body: unreachable };
  }
}

// The page at an address as a document; null where it cannot be had now.
export async function fetchPage(url) {
  try {
    const response = await fetch(url, { headers: { accept: "text/html" } });
    if (!response.ok) return null;
    return new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    return null;
  }
}

// Where to sign in, and come back to an address from there.
export const signInFor = (address) => `/login?next=${encodeURIComponent(address)}`;

const unreachable = {
  title: "The console does not answer",
  message: "Your connection is lost, or the console is being restarted. Nothing is lost.",
  reason: "UNREACHABLE",
  fields: {},
  down: [],
  retry: true,
};

// light and dark by the system's word, until somebody says otherwise.
function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it and press Ctrl+C";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("themeSwitch" in button.dataset) switchTheme();
  if ("copy" in button.dataset) copy(button);
  if ("opens" in button.dataset) document.getElementById(button.dataset.opens).showModal();
  if ("closes" in button.dataset) button.closest("dialog").close();
});

// On a phone the bar of pages scrolls: the present page is in view.
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
