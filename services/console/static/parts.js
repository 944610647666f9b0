// Parts of a page that are loaded when somebody opens them, so that the page never waits for them.

import { fetchPage } from "./base.js";

async function load(part, address) {
  const content = (await fetchPage(address))?.getElementById("part");
  const place = part.querySelector(".place");
  if (content) place.replaceChildren(...content.childNodes);
  else place.textContent = "This part cannot be had at the moment; close and open it to try again.";
  part.dataset.loaded = content ? "yes" : "";
}

for (const part of document.querySelectorAll("details[data-part]")) {
  part.addEventListener("toggle", () => {
    if (part.open && !part.dataset.loaded) load(part, part.dataset.part);
  });
  part.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-part-link]");
    if (!link) return;
    event.preventDefault();
    load(part, link.getAttribute("href"));
  });
}
