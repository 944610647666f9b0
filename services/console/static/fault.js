// Loads the page again as soon as what was down is back.

const PAUSE_MS = 3000;

async function isBack() {
  try {
    return (await fetch(location.href, { headers: { accept: "text/html" } })).ok;
  } catch {
    return false;
  }
}

async function tryAgain() {
  if (await isBack()) location.reload();
  else setTimeout(tryAgain, PAUSE_MS);
}

setTimeout(tryAgain, PAUSE_MS);
